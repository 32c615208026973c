"""A mask says where the heart is, whatever the file's flips and pixel size, and is measured in place of a network."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest

from cpgg_hf.errors import InputError
from cpgg_hf.phantom import LABELS
from cpgg_hf.plane import affine_of_plane
from cpgg_hf.preparation.grid.mask import read_mask
from cpgg_hf.preparation.grid.prepare import prepare_scan, to_display_orientation

from .test_prepare import ORIENTATION, series_of


@pytest.fixture(scope="module")
def series(heart):
    return series_of(heart.field)


@pytest.fixture(scope="module")
def labels(heart):
    """(50, H, W) the embedded heart's labels 0 to 5."""
    labels = np.zeros(heart.field.shape, dtype=np.uint8)
    top, left = heart.corner
    known = np.where(heart.labels == LABELS["descending aorta"], 0, heart.labels)
    labels[:, top : top + 96, left : left + 96] = known
    return labels


def write_mask(path, labels, affine=None):
    """(T, H, W) as NIfTI; without an affine the file says nothing of its place."""
    image = nibabel.Nifti1Image(labels.transpose(2, 1, 0)[:, :, None, :], np.eye(4) if affine is None else affine)
    if affine is None:
        image.set_sform(None, 0)
        image.set_qform(None, 0)
    nibabel.save(image, path)
    return path


def plane(series):
    return affine_of_plane(tuple(series.spacing_mm), series.orientation, series.position, 6.0)


@pytest.mark.parametrize("placed", [True, False])
def test_labels_come_back_as_they_are(series, labels, placed, tmp_path):
    path = write_mask(tmp_path / "mask.nii.gz", labels, plane(series) if placed else None)
    assert np.array_equal(read_mask(path, series), labels)
    still = write_mask(tmp_path / "still.nii.gz", labels[:1], plane(series) if placed else None)
    assert np.array_equal(read_mask(still, series), labels[:1])


@pytest.mark.parametrize("num_times", [50, 1])
def test_a_mask_turned_to_the_patients_axes_is_read(series, labels, num_times, tmp_path):
    stored = labels[:num_times].transpose(2, 1, 0)[:, None, ::-1]
    turned = plane(series)[:, [0, 2, 1, 3]]
    turned[:, 3] += turned[:, 2] * (labels.shape[1] - 1)
    turned[:, 2] *= -1
    stored = stored[..., 0] if num_times == 1 else stored
    nibabel.save(nibabel.Nifti1Image(stored, turned), tmp_path / "turned.nii.gz")
    assert np.array_equal(read_mask(tmp_path / "turned.nii.gz", series), labels[:num_times])


def test_flips_and_the_turn_upright_do_not_matter(series, labels, tmp_path):
    height = labels.shape[1]
    stood = replace(
        series,
        orientation=ORIENTATION * [1, 1, 1, -1, -1, -1],
        position=series.position + 1.8 * (height - 1) * ORIENTATION[3:],
        pixels=series.pixels[:, ::-1],
    )
    path = write_mask(tmp_path / "mask.nii.gz", labels, plane(series))
    assert np.array_equal(read_mask(path, stood), labels[:, ::-1])
    assert np.array_equal(read_mask(path, to_display_orientation(stood)), labels)


def test_another_pixel_size_marks_the_same_place(series, labels, tmp_path):
    fine = labels.repeat(2, axis=1).repeat(2, axis=2)
    corner = series.position - 0.45 * (series.orientation[:3] + series.orientation[3:])
    affine = affine_of_plane((0.9, 0.9), series.orientation, corner, 6.0)
    found = read_mask(write_mask(tmp_path / "mask.nii.gz", fine, affine), series)
    assert (found == labels).mean() > 0.9999


def test_the_crop_is_around_the_mask_and_its_labels_are_measured(series, labels, heart):
    prepared = prepare_scan(series, mask=labels)
    places = np.argwhere((labels > 0).any(axis=0))
    np.testing.assert_allclose(prepared.center, (places.min(axis=0) + places.max(axis=0)) / 2, atol=0.51)
    first = np.round(prepared.center - 47.5).astype(int)
    cropped = labels[:, first[0] : first[0] + 96, first[1] : first[1] + 96]
    assert np.array_equal(prepared.probabilities.argmax(axis=1), cropped)
    np.testing.assert_allclose(prepared.probabilities.sum(axis=1), 1, atol=1e-3)
    assert prepare_scan(series, mask=labels[:1]).probabilities is None  # a still heart has no volumes over the beat


def test_what_is_no_mask_of_this_image_is_refused(series, labels, tmp_path):
    def refused(match, stored, affine=None):
        with pytest.raises(InputError, match=match):
            read_mask(write_mask(tmp_path / "mask.nii.gz", stored, affine), series)

    refused("holds the label 7; expected 0 background, 1 LV cavity", np.where(labels == 1, 7, labels).astype(np.uint8))
    refused("marks nothing", 0 * labels)
    refused("has 3 times, the cine 50 frames", labels[:3])
    refused("rows and columns", labels[:, 5:])
    away = affine_of_plane((1.8, 1.8), ORIENTATION, series.position + np.array([0, 50, -50]), 6.0)
    refused("lies in another plane", labels, away)
    (tmp_path / "mask.nii.gz").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"cannot read .*: not a NIfTI file"):
        read_mask(tmp_path / "mask.nii.gz", series)
