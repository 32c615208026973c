"""`generate_dataset`: every format from the same cines, resumable, the same bytes however the work is shared."""

import errno
import json
import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import nibabel
import numpy as np
import pytest
import torch
from tiny_checkpoint import tiny_pipeline

from cpgg_hf import phantom
from cpgg_hf.dataset import cine_of, decode_cine, load_cines, read_description
from cpgg_hf.dataset import parquet as cine_shards
from cpgg_hf.errors import OutputError, RequestError
from cpgg_hf.generation import GenerationRequest, Verification, generate_dataset, parse_condition
from cpgg_hf.hub.policy import policy_of
from cpgg_hf.measure import measure_cine
from cpgg_hf.models.guidance import ConstantGuidance, Guidance
from cpgg_hf.phenotypes import phenotype_index, read_csv
from cpgg_hf.scans.dicom import read_dicom_folder
from cpgg_hf.segmentation.segmenter import CineSegmenter
from cpgg_hf.shards import locked

LVEF = phenotype_index("LVEF")
FILES = ("nifti", "npz", "dicom")


def five(pipe, out, **changes):
    """Five hearts of LVEF < 60 in shards of two."""
    request = GenerationRequest(None, 5, [parse_condition("LVEF < 60")])
    return generate_dataset(pipe, out, request, **{"seed": 4, "shard_size": 2, "data_policy": "phantom", **changes})


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.fixture(scope="module")
def made(pipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "set"
    assert five(pipe, folder)
    return folder


@pytest.fixture(scope="module")
def files(pipe, tmp_path_factory):
    """The same hearts as files and as a data set, in one folder."""
    folder = tmp_path_factory.mktemp("files") / "both"
    assert five(pipe, folder, formats=(*FILES, "parquet"))
    return folder


@pytest.fixture(scope="module")
def segmenter():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CineSegmenter(block_out_channels=(4, 8), norm_num_groups=2, data_policy="phantom").eval()


class SumAsLVEF(Verification):
    """Measures an LVEF that depends on the sum of the first frame."""

    def measure(self, cine):
        measured = np.full(82, np.nan)
        measured[LVEF] = float(cine.uint8[0].sum() % 60)
        return measured


class LimitedMemory:
    """A pipeline on a device that holds no more than `limit` cines at once."""

    def __init__(self, pipe, limit):
        self.pipe, self.limit = pipe, limit

    def __getattr__(self, name):
        return getattr(self.pipe, name)

    def __call__(self, phenotypes, **settings):
        if len(phenotypes) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.pipe(phenotypes, **settings)


def test_the_set_holds_the_pipelines_cines_of_its_own_seeds_and_phenotypes(pipe, made, tmp_path):
    assert read_description(made)["splits"] == {
        "train": {"num_cines": 5, "num_shards": 3, "cines_per_shard": [2, 2, 1]}
    }
    assert visible(made) == [
        "README.md",
        "data_policy.json",
        "dataset.json",
        "generation.json",
        "phenotypes.png",
        *(f"train-0000{shard}-of-00003.parquet" for shard in range(3)),
    ]
    assert policy_of(made) == "phantom"
    rows = load_cines(made, cache_dir=tmp_path)
    assert len({row["seed"] for row in rows}) == len({row["subject"] for row in rows}) == 5
    for row in rows:
        phenotypes = np.array(row["phenotypes"])
        assert phenotypes[LVEF] < 60
        output = pipe(phenotypes, generator=[torch.Generator().manual_seed(row["seed"])])
        assert np.array_equal(decode_cine(row), np.round(255 * output.cines[0]).astype(np.uint8))
        assert row["frame_time_ms"] == pytest.approx(output.frame_time_ms[0])
        assert row["spacing_mm"] == 1.8
        assert row["measured"] is None


def test_one_seed_gives_the_same_cines_in_every_format(made, files, tmp_path):
    rows = load_cines(made, cache_dir=tmp_path)
    listed = json.loads((files / "cines.json").read_text())
    assert np.array_equal(read_csv(files / "phenotypes.csv"), np.array(rows["phenotypes"]))
    assert [one["seed"] for one in listed] == list(rows["seed"])
    assert [one["name"] for one in listed] == [f"cine_{index:05d}" for index in range(5)]
    for index, row in enumerate(rows):
        image = nibabel.load(files / f"cine_{index:05d}.nii.gz")
        in_nifti = np.asarray(image.dataobj)[:, :, 0].transpose(2, 1, 0)
        with np.load(files / f"cine_{index:05d}.npz") as archive:
            assert np.array_equal(archive["cine"], in_nifti)
            assert np.array_equal(archive["phenotypes"], row["phenotypes"])
            assert (archive["seed"], archive["frame_time_ms"]) == (row["seed"], row["frame_time_ms"])
        assert np.array_equal(np.round(255 * in_nifti), row["cine"])
        in_dicom = read_dicom_folder(files / f"cine_{index:05d}_dicom").pixels
        assert np.array_equal(np.round(4095 * in_nifti), in_dicom)
    shards = sorted(made.glob("*.parquet"))
    assert [path.read_bytes() for path in shards] == [(files / path.name).read_bytes() for path in shards]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_bytes_are_the_same_for_any_batch_size(pipe, made, tmp_path, digests, batch_size):
    five(pipe, tmp_path / "set", batch_size=batch_size)
    assert digests(tmp_path / "set") == digests(made)


@pytest.mark.parametrize("formats", [("parquet",), FILES])
def test_the_bytes_are_the_same_for_any_number_of_workers(pipe, tmp_path, digests, formats):
    """One worker after the other, out of order: only the last finds everything complete."""
    five(pipe, tmp_path / "one", formats=formats)
    out, changes = tmp_path / "three", {"formats": formats, "num_workers": 3}
    assert [five(pipe, out, **changes, worker=worker, batch_size=worker + 1) for worker in (2, 0, 1)] == [
        False,
        False,
        True,
    ]
    assert digests(out) == digests(tmp_path / "one")


def test_workers_that_wait_for_each_other_leave_the_description_to_the_first(pipe, made, tmp_path, digests):
    def others():
        assert not five(pipe, tmp_path / "set", worker=1, num_workers=2, wait=lambda: None)
        assert not (tmp_path / "set" / "dataset.json").exists()

    assert five(pipe, tmp_path / "set", worker=0, num_workers=2, wait=others)
    assert digests(tmp_path / "set") == digests(made)


def test_what_is_there_is_kept_and_what_is_missing_is_made(pipe, made, tmp_path, digests):
    shutil.copytree(made, tmp_path / "set")
    shards = sorted((tmp_path / "set").glob("*.parquet"))
    shards[1].unlink()
    before = shards[0].stat().st_mtime_ns
    five(pipe, tmp_path / "set")
    assert shards[0].stat().st_mtime_ns == before
    assert digests(tmp_path / "set") == digests(made)


def test_files_that_are_lost_or_damaged_are_made_again(pipe, files, tmp_path, digests):
    out = tmp_path / "both"
    shutil.copytree(files, out)
    kept = (out / "cine_00004.npz").stat().st_mtime_ns
    (out / "cine_00000.npz").write_bytes(b"cut")
    (out / "cine_00003_dicom" / "frame_0007.dcm").unlink()
    (out / "cines.json").unlink()
    (out / ".0123.partial.cine_00000.npz").touch()  # of a killed process
    five(pipe, out, formats=(*FILES, "parquet"))
    assert digests(out) == digests(files)
    assert (out / "cine_00004.npz").stat().st_mtime_ns == kept


def test_a_second_run_of_the_same_worker_is_refused(pipe, tmp_path):
    with locked(tmp_path, "worker 0"), pytest.raises(OutputError, match=r"another run .* is active"):
        five(pipe, tmp_path)


def test_a_run_that_fails_before_its_first_shard_leaves_nothing(pipe, tmp_path):
    with pytest.raises(ValueError, match="num_decoding_steps"):
        five(pipe, tmp_path / "a" / "b", num_decoding_steps=41)
    assert list(tmp_path.iterdir()) == []


def test_too_little_memory_takes_smaller_batches_and_the_same_bytes(pipe, made, tmp_path, digests, capsys):
    five(LimitedMemory(pipe, 1), tmp_path / "set", batch_size=8)
    assert digests(tmp_path / "set") == digests(made)
    assert "continuing with batches of 1" in capsys.readouterr().err
    with pytest.raises(RequestError, match="too small for one micro-batch of 2 cines; free some, or use a smaller"):
        five(LimitedMemory(pipe, 0), tmp_path / "other")


def test_memory_that_is_short_once_halves_the_batch_for_good(pipe, made, tmp_path, digests, capsys):
    """As where another program takes the device's memory for a moment."""

    class ShortOnce(LimitedMemory):
        sizes: ClassVar[list[int]] = []

        def __call__(self, phenotypes, **settings):
            self.sizes.append(len(phenotypes))
            if len(self.sizes) == 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.pipe(phenotypes, **settings)

    five(ShortOnce(pipe, None), tmp_path / "set", batch_size=2)
    assert ShortOnce.sizes == [2, 2, 1, 1, 1]
    assert digests(tmp_path / "set") == digests(made)
    assert capsys.readouterr().err.count("continuing with batches of 1") == 1


def test_a_full_disk_stops_cleanly_and_the_run_can_be_resumed(pipe, made, tmp_path, digests, monkeypatch):
    written = []

    @contextmanager
    def staged_file(path, own=cine_shards.staged_file):
        with own(path) as partial:
            written.append(path)
            if len(written) == 2:
                partial.symlink_to("/dev/full")  # where every write fails as on a full disk
            yield partial

    with monkeypatch.context() as patch:
        patch.setattr(cine_shards, "staged_file", staged_file)
        with pytest.raises(OutputError, match=r"the disk of .* is full; free some space and give the same command"):
            five(pipe, tmp_path / "set")
    assert visible(tmp_path / "set") == ["generation.json", "train-00000-of-00003.parquet"]
    assert not list((tmp_path / "set").rglob(".*.partial*"))
    five(pipe, tmp_path / "set")
    assert digests(tmp_path / "set") == digests(made)


def test_a_disk_may_be_full_wherever_something_is_written(pipe, made, tmp_path, digests, monkeypatch):
    """One write after another fails, each in a run of its own, until the set is complete."""
    out = tmp_path / "set"

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    modules = ("shards.plan", "dataset.parquet", "shards.engine", "dataset.card_statistics")
    there = []
    for module in (*modules, "dataset.card"):
        with monkeypatch.context() as patch:
            patch.setattr(f"cpgg_hf.{module}.staged_file", full)
            with pytest.raises(OutputError, match=r"the disk of .* is full"):
                five(pipe, out)
        there.append(visible(out) if out.exists() else [])
    shards = [f"train-0000{shard}-of-00003.parquet" for shard in range(3)]
    assert there == [
        [],
        ["generation.json"],
        ["generation.json", shards[0]],
        ["data_policy.json", "dataset.json", "generation.json", *shards],
        ["data_policy.json", "dataset.json", "generation.json", "phenotypes.png", *shards],
    ]
    five(pipe, out)
    assert digests(out) == digests(made)


def test_a_full_file_system_of_its_own(pipe, made, tmp_path, digests):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1300k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        with pytest.raises(OutputError, match="is full"):
            five(pipe, disk / "set")
        assert not list((disk / "set").rglob("*.partial.*"))
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        five(pipe, disk / "set")
        assert digests(disk / "set") == digests(made)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_progress_is_printed_in_single_lines(pipe, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr("cpgg_hf.generation.progress.SECONDS_BETWEEN_LINES", 0.0)
        five(pipe, tmp_path / "set", batch_size=1)
    lines = [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()]
    assert re.fullmatch(r"1 of 5 cines \(20\.0%\), [\d.]+ cines/s, 0:00:\d\d left", lines[0])
    assert [re.search(r"(\d) of 5", line)[1] for line in lines] == list("1223445")
    five(pipe, tmp_path / "set")
    assert capsys.readouterr().err.endswith("] 5 of 5 cines (100.0%)\n")


def test_other_failures_to_write_are_not_called_a_full_disk(pipe, tmp_path, monkeypatch):
    @contextmanager
    def staged_file(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
        yield

    monkeypatch.setattr(cine_shards, "staged_file", staged_file)
    with pytest.raises(PermissionError):
        five(pipe, tmp_path / "set")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 5}, r"started with seed = 4 \(now 5\); use the same settings, or choose another folder"),
        ({"guidance_scale": 3.0}, r"settings.guidance_scale = 2.0 \(now 3.0\)"),
        ({"shard_size": 3}, "shard_size = 2"),
        ({"data_policy": "public"}, "data_policy = 'phantom'"),
        ({"formats": ("nifti",)}, r"formats = \['parquet'\] \(now \['nifti'\]\)"),
    ],
)
def test_other_settings_are_refused_and_change_nothing(pipe, made, digests, changes, message):
    before = digests(made)
    with pytest.raises(RequestError, match=message):
        five(pipe, made, **changes)
    assert digests(made) == before


@dataclass(frozen=True)
class Late(Guidance):
    """Guides from a diffusion step on."""

    first: int

    def scale(self, step):
        return 2.0 if step.diffusion_step >= self.first else 1.0


def test_a_guidance_rule_is_recorded_with_its_fields(pipe, made, tmp_path, digests):
    five(pipe, made, guidance_scale=ConstantGuidance(2.0))  # the same settings as the number
    five(pipe, tmp_path / "rule", guidance_scale=Late(0))
    plan = json.loads((tmp_path / "rule" / "generation.json").read_text())
    assert plan["settings"]["guidance_scale"] == {"rule": f"{__name__}.Late", "first": 0}
    shards = [sorted(folder.glob("*.parquet")) for folder in (made, tmp_path / "rule")]
    assert [path.read_bytes() for path in shards[0]] == [path.read_bytes() for path in shards[1]]
    with pytest.raises(RequestError, match=r"first = 0 \(now 1\)"):
        five(pipe, tmp_path / "rule", guidance_scale=Late(1))


def test_a_guidance_rule_that_hides_its_settings_is_refused(pipe, tmp_path):
    class Hidden(Guidance):
        def scale(self, step):
            return 2.0

    with pytest.raises(RequestError, match=r"Hidden cannot be recorded .* make it a dataclass"):
        five(pipe, tmp_path / "set", guidance_scale=Hidden())


def test_other_weights_threads_or_conditions_are_refused(pipe, made):
    changed = tiny_pipeline()
    next(changed.mar.parameters()).data.view(-1)[0] += 1e-3
    with pytest.raises(RequestError, match=r"started with model\.sha256\.mar = "):
        five(changed, made)
    with pytest.raises(RequestError, match=r"request\.where = \['LVEF < 60'\] \(now \[\]\)"):
        generate_dataset(pipe, made, GenerationRequest(None, 5), seed=4, shard_size=2, data_policy="phantom")
    torch.set_num_threads(2)
    try:
        with pytest.raises(RequestError, match=r"environment\.torch_threads = 1 \(now 2\)"):
            five(pipe, made)
    finally:
        torch.set_num_threads(1)


def test_foreign_folders_and_unsatisfiable_requests_leave_everything_as_it_was(pipe, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RequestError, match=r"is not empty and has no generation\.json"):
        five(pipe, tmp_path)
    with pytest.raises(RequestError, match="is a file; give a folder"):
        five(pipe, tmp_path / "mine.txt")
    with pytest.raises(RequestError, match="none of 500 drawn hearts meets"):
        generate_dataset(pipe, tmp_path / "new", GenerationRequest(None, 50, [parse_condition("LVEF > 99")]))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed must be at least 0, given -1"),
        ({"shard_size": 0}, "shard_size must be at least 1, given 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, given 0"),
        ({"num_workers": 0}, "num_workers must be at least 1, given 0"),
        ({"worker": 2, "num_workers": 2}, "worker must lie between 0 and 1, given 2"),
        ({"formats": ("avi",)}, "unknown format 'avi'; expected some of dicom, gif"),
        ({"formats": ()}, "no format given"),
    ],
)
def test_impossible_settings_are_refused(pipe, tmp_path, changes, message):
    with pytest.raises(RequestError, match=message):
        five(pipe, tmp_path / "set", **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_shard_of_another_plan_is_made_again(pipe, made, tmp_path, digests):
    shutil.copytree(made, tmp_path / "set")
    five(pipe, tmp_path / "other", seed=5)
    shard = "train-00001-of-00003.parquet"
    (tmp_path / "other" / shard).replace(tmp_path / "set" / shard)
    five(pipe, tmp_path / "set")
    assert digests(tmp_path / "set") == digests(made)


def test_the_stored_cine_is_measured(pipe, segmenter, tmp_path):
    request = GenerationRequest(phantom.sample_phenotypes(2, 1))
    generate_dataset(pipe, tmp_path / "set", request, verification=Verification(segmenter), split="test")
    for row in load_cines(tmp_path / "set", "test", cache_dir=tmp_path):
        expected = measure_cine(cine_of(row), segmenter).phenotypes
        assert np.array_equal(np.array(row["measured"]), expected, equal_nan=True)
        assert row["attempt"] == 1


def test_a_cine_too_far_from_its_request_is_drawn_again_for_the_same_heart(pipe, segmenter, tmp_path, digests):
    """With a measurement that depends on the pixels, so that some attempts pass and some fail."""
    hearts = GenerationRequest({"LVEF": 30.0}, 6)
    verification = SumAsLVEF(segmenter, {"LVEF": 15.0}, max_attempts=3)
    for batch_size in (1, 4):
        out = tmp_path / f"{batch_size}"
        generate_dataset(pipe, out, hearts, verification=verification, batch_size=batch_size)
    assert digests(tmp_path / "1") == digests(tmp_path / "4")
    rows = list(load_cines(out, cache_dir=tmp_path / "cache"))
    attempts, errors = [row["attempt"] for row in rows], [abs(row["measured"][LVEF] - 30) for row in rows]
    assert len(set(attempts)) > 1
    assert all(error <= 15 or attempt == 3 for attempt, error in zip(attempts, errors, strict=True))
    assert read_description(out)["verification"] == {
        "max_error": {"LVEF": 15.0},
        "cines_within_max_error": sum(error <= 15 for error in errors),
        "cines_tried": sum(attempts),
    }
    generate_dataset(pipe, tmp_path / "files", hearts, verification=verification, formats=("npz",))
    listed = json.loads((tmp_path / "files" / "cines.json").read_text())
    assert [one["attempt"] for one in listed] == attempts
    assert [one["measured"] for one in listed] == [{"LVEF": row["measured"][LVEF]} for row in rows]
    generate_dataset(pipe, tmp_path / "unverified", hearts)
    unverified = load_cines(tmp_path / "unverified", cache_dir=tmp_path / "cache")
    for row, other in zip(rows, unverified, strict=True):
        assert np.array_equal(row["phenotypes"], other["phenotypes"])
        assert np.array_equal(row["cine"], other["cine"]) == (row["attempt"] == 1)


@pytest.mark.parametrize(
    ("max_error", "message"),
    [({"LVM": 5.0}, "LVM cannot be measured in a four-chamber view"), ({"LVEF": -1.0}, "largest error of LVEF is -1")],
)
def test_errors_that_cannot_be_bounded_are_refused(segmenter, max_error, message):
    with pytest.raises(RequestError, match=message):
        Verification(segmenter, max_error)


def test_the_plan_records_everything_that_the_bytes_depend_on(files):
    plan = json.loads((files / "generation.json").read_text())
    assert plan["formats"] == ["dicom", "nifti", "npz", "parquet"]
    assert plan["request"]["where"] == ["LVEF < 60"]
    assert plan["settings"] == {
        "guidance_scale": 2.0,
        "temperature": 1.0,
        "num_decoding_steps": 3,
        "num_inference_steps": 4,
        "micro_batch_size": 2,
    }
    assert plan["environment"]["versions"]["torch"] == torch.__version__
    assert set(plan["model"]["sha256"]) == {"phenotype_vae", "mar", "vae", "scheduler"}
