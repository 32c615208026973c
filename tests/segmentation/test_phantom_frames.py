import numpy as np
import pytest
from phantom_subjects import polygon_area

from cpgg_hf.segmentation import phantom_frames
from cpgg_hf.segmentation.phantom_frames import PhantomFrames, subject_seed


def test_coverage_is_a_partition_of_every_pixel(exact_coverage):
    for coverage in exact_coverage:
        assert coverage.min() >= 0
        np.testing.assert_allclose(coverage.sum(dim=1).numpy(), 1.0, atol=1e-5)


def test_coverage_agrees_with_the_phantoms_labels(subjects, exact_coverage):
    for subject, coverage in zip(subjects, exact_coverage, strict=True):
        assert (coverage.argmax(dim=1).numpy() == subject.labels).mean() > 0.99


def test_coverage_sums_to_the_outlines_area(subjects, exact_coverage):
    """A pixel-centre label map is off by up to a per cent; coverage is not."""
    for subject, coverage in zip(subjects, exact_coverage, strict=True):
        covered = coverage[:, 1].sum(dim=(1, 2)).numpy() * subject.cine.pixel_size_mm**2
        np.testing.assert_allclose(covered, polygon_area(subject.outlines.lv_cavity), rtol=0.005)


def test_seeds_differ_between_splits_and_from_the_phantom_data_sets():
    from cpgg_hf.shards import derive_seed

    own = {subject_seed(split, index) for split in ("train", "validation", "test") for index in range(1000)}
    assert len(own) == 3000
    theirs = {derive_seed(seed, split, i) for seed in range(3) for split in (0, 2) for i in range(1000)}
    assert not own & theirs


def test_frames_are_rendered_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("cpgg_hf.segmentation.rendered.SUBJECTS_PER_FILE", 1)
    frames = PhantomFrames(tmp_path, 2, progress=False)
    batch = frames[[0, 7]]
    assert len(frames) == 12
    assert batch["frames"].shape == (2, 3, 96, 96)
    assert batch["coverage"].shape == (2, 6, 96, 96)

    def never(*_):
        raise AssertionError("rendered again")

    monkeypatch.setattr(phantom_frames, "render_subject", never)
    again = PhantomFrames(tmp_path, 2, progress=False)
    assert (again[[0, 7]]["frames"] == batch["frames"]).all()
    assert again.fingerprint() == frames.fingerprint()


def test_a_number_of_subjects_that_fills_no_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="multiple of 50, given 30"):
        PhantomFrames(tmp_path, 30)
