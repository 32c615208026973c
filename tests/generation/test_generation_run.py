"""A generated set in one process: the same bytes for any batch size, after any fault, and what is refused."""

import errno
import json
import os
import re
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from tiny_checkpoint import tiny_pipeline

from cpgg_hf import phantom
from cpgg_hf.dataset import cine_of, decode_cine, load_cines
from cpgg_hf.dataset import parquet as cine_shards
from cpgg_hf.errors import OutputError, RequestError
from cpgg_hf.generation import GenerationRequest, Verification, generate_dataset, parse_condition
from cpgg_hf.generation.claims import Claims
from cpgg_hf.measure import measure_cine
from cpgg_hf.phenotypes import phenotype_index
from cpgg_hf.segmentation.segmenter import CineSegmenter

LVEF = phenotype_index("LVEF")


def five(pipe, out, **changes):
    """Five hearts of LVEF < 60 in shards of two."""
    request = GenerationRequest(None, 5, [parse_condition("LVEF < 60")])
    return generate_dataset(pipe, out, request, **{"seed": 4, "shard_size": 2, "data_policy": "phantom", **changes})


@pytest.fixture(scope="module")
def made(pipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "set"
    return folder, five(pipe, folder)


@pytest.fixture(scope="module")
def segmenter():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CineSegmenter(block_out_channels=(4, 8), norm_num_groups=2, data_policy="phantom").eval()


class Forgetful(Verification):
    """Measures what was requested, but says 40 too little of LVEF in the first attempts at every second heart."""

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
    folder, description = made
    assert description["splits"] == {"train": {"num_cines": 5, "num_shards": 3, "cines_per_shard": [2, 2, 1]}}
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "dataset.json",
        "generation.json",
        "phenotypes.png",
        *(f"train-0000{shard}-of-00003.parquet" for shard in range(3)),
    ]
    rows = load_cines(folder, cache_dir=tmp_path)
    assert len({row["seed"] for row in rows}) == len({row["subject"] for row in rows}) == 5
    for row in rows:
        phenotypes = np.array(row["phenotypes"])
        assert phenotypes[LVEF] < 60
        output = pipe(phenotypes, generator=[torch.Generator().manual_seed(row["seed"])])
        assert np.array_equal(decode_cine(row), np.round(255 * output.cines[0]).astype(np.uint8))
        assert row["frame_time_ms"] == pytest.approx(output.frame_time_ms[0])
        assert row["spacing_mm"] == 1.8
        assert row["measured"] is None


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_bytes_are_the_same_for_any_batch_size(pipe, made, tmp_path, digests, batch_size):
    five(pipe, tmp_path / "set", batch_size=batch_size)
    assert digests(tmp_path / "set") == digests(made[0])


def test_what_is_there_is_kept_and_what_is_missing_is_made(pipe, made, tmp_path, digests):
    five(pipe, tmp_path / "set")
    shards = sorted((tmp_path / "set").glob("*.parquet"))
    shards[1].unlink()
    before = shards[0].stat().st_mtime_ns
    five(pipe, tmp_path / "set")
    assert shards[0].stat().st_mtime_ns == before
    assert digests(tmp_path / "set") == digests(made[0])


def test_too_little_memory_takes_smaller_batches_and_the_same_bytes(pipe, made, tmp_path, digests, capsys):
    five(LimitedMemory(pipe, 1), tmp_path / "set", batch_size=8)
    assert digests(tmp_path / "set") == digests(made[0])
    assert "going on with 1 cines at once" in capsys.readouterr().out
    with pytest.raises(RequestError, match="does not hold one micro-batch of 2 cines; free some, or begin"):
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
    assert digests(tmp_path / "set") == digests(made[0])
    assert capsys.readouterr().out.count("the device's memory does not hold the batch; going on with 1 cines") == 1


def test_a_full_disk_stops_cleanly_and_the_run_goes_on_later(pipe, made, tmp_path, digests, monkeypatch):
    written = []

    @contextmanager
    def staged_file(path, own=cine_shards.staged_file):
        with own(path) as partial:
            written.append(path)
            if len(written) == 2:
                partial.symlink_to("/dev/full")  # where every write says that the disk is full
            yield partial

    with monkeypatch.context() as patch:
        patch.setattr(cine_shards, "staged_file", staged_file)
        with pytest.raises(OutputError, match=r"the disk of .* is full; free some space and give the same command"):
            five(pipe, tmp_path / "set")
    left = {path.name for path in (tmp_path / "set").rglob("*")}
    assert left == {"generation.json", ".claims", "train-00000-of-00003.parquet"}
    five(pipe, tmp_path / "set")
    assert digests(tmp_path / "set") == digests(made[0])


def test_a_disk_may_be_full_wherever_something_is_written(pipe, made, tmp_path, digests, monkeypatch):
    """One write after another fails, each in a run of its own, until the set is whole."""
    out = tmp_path / "set"

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    def nowhere_in(folder, own=Path.open):
        return lambda path, *arguments, **options: (full if path.parent == folder else own)(
            path, *arguments, **options
        )

    rooms = ("generation.plan", "data.cine_shards", "data.cine_description", "data.card_plots", "data.card")
    writers = {f"cpgg_hf.{room}.staged_file": full for room in rooms}
    there = []
    for target, writer in {"pathlib.Path.open": nowhere_in(out / ".claims"), **writers}.items():
        with monkeypatch.context() as patch:
            patch.setattr(target, writer)
            with pytest.raises(OutputError, match=r"the disk of .* is full"):
                five(pipe, out)
        assert not list(out.glob(".claims/*")), target  # nothing is left to hold the next run up
        there.append(sorted(path.name for path in out.iterdir() if path.name != ".claims"))
    shards = [f"train-0000{shard}-of-00003.parquet" for shard in range(3)]
    assert there == [
        [],
        [],
        ["generation.json"],
        ["generation.json", *shards],
        ["dataset.json", "generation.json", *shards],
        ["dataset.json", "generation.json", "phenotypes.png", *shards],
    ]
    five(pipe, out)
    assert digests(out) == digests(made[0])


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
        assert digests(disk / "set") == digests(made[0])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_progress_counts_what_others_have_made_of_shards_that_are_not_finished(
    pipe, made, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "set"
    others = Claims(out / ".claims")
    others._owner = "another node 1"
    held = others.take(["train-00001-of-00003.parquet"])
    held.advance(1)
    monkeypatch.setattr("cpgg_hf.generation.progress.SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr("cpgg_hf.generation.run.time.sleep", lambda _: held.path.unlink())  # nothing is left but that
    five(pipe, out, batch_size=1)
    lines = [line.partition("] ")[2] for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "1 of 5 cines (20.0%)"
    assert [re.search(r"(\d) of 5", line)[1] for line in lines] == list("1233444455")


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
        ({"seed": 5}, r"begun with seed = 4 \(now 5\); go on with the same, or choose another folder"),
        ({"guidance_scale": 3.0}, r"settings.guidance_scale = 2.0 \(now 3.0\)"),
        ({"shard_size": 3}, "shard_size = 2"),
        ({"data_policy": "public"}, "data_policy = 'phantom'"),
    ],
)
def test_other_settings_are_refused_and_change_nothing(pipe, made, digests, changes, message):
    before = digests(made[0])
    with pytest.raises(RequestError, match=message):
        five(pipe, made[0], **changes)
    assert digests(made[0]) == before


def test_other_weights_threads_or_conditions_are_refused(pipe, made):
    changed = tiny_pipeline()
    next(changed.mar.parameters()).data.view(-1)[0] += 1e-3
    with pytest.raises(RequestError, match=r"begun with model\.sha256\.mar = "):
        five(changed, made[0])
    with pytest.raises(RequestError, match=r"request\.where = \['LVEF < 60'\] \(now \[\]\)"):
        generate_dataset(pipe, made[0], GenerationRequest(None, 5), seed=4, shard_size=2, data_policy="phantom")
    torch.set_num_threads(2)
    try:
        with pytest.raises(RequestError, match=r"environment\.torch_threads = 1 \(now 2\)"):
            five(pipe, made[0])
    finally:
        torch.set_num_threads(1)


def test_foreign_folders_and_hopeless_requests_leave_everything_as_it_was(pipe, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RequestError, match=r"is not empty and has no generation\.json"):
        five(pipe, tmp_path)
    with pytest.raises(RequestError, match="is a file; give a folder"):
        five(pipe, tmp_path / "mine.txt")
    with pytest.raises(RequestError, match="none of 500 drawn hearts meets"):
        generate_dataset(pipe, tmp_path / "new", GenerationRequest(None, 50, [parse_condition("LVEF > 99")]))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(("name", "value"), [("seed", -1), ("shard_size", 0), ("batch_size", 0)])
def test_sizes_and_seeds_that_cannot_be_are_refused(pipe, tmp_path, name, value):
    with pytest.raises(RequestError, match=f"{name} must be at least {max(0, value + 1)}, given {value}"):
        five(pipe, tmp_path / "set", **{name: value})
    assert list(tmp_path.iterdir()) == []


def test_a_shard_of_another_plan_is_refused(pipe, made, tmp_path):
    five(pipe, tmp_path / "set")
    shard = "train-00001-of-00003.parquet"
    five(pipe, tmp_path / "other", seed=5)
    (tmp_path / "other" / shard).replace(tmp_path / "set" / shard)
    with pytest.raises(RequestError, match=f"{shard} was not made by the plan beside it; delete it"):
        five(pipe, tmp_path / "set")


def test_verified_cines_keep_what_is_measured_of_what_is_stored(pipe, segmenter, tmp_path):
    request = GenerationRequest(phantom.sample_phenotypes(2, 1))
    generate_dataset(pipe, tmp_path / "set", request, verification=Verification(segmenter), split="test")
    for row in load_cines(tmp_path / "set", "test", cache_dir=tmp_path):
        expected = measure_cine(cine_of(row), segmenter).phenotypes
        assert np.array_equal(np.array(row["measured"]), expected, equal_nan=True)
        assert row["attempt"] == 1


def test_a_cine_too_far_from_its_request_is_drawn_again_for_the_same_heart(pipe, segmenter, tmp_path, digests):
    """A stand-in of the measure says what the picture's sum decides, so that some attempts pass and some fail."""
    hearts = GenerationRequest({"LVEF": 30.0}, 6)
    verification = Forgetful(segmenter, {"LVEF": 15.0}, max_attempts=3)
    for batch_size in (1, 4):
        out = tmp_path / f"{batch_size}"
        description = generate_dataset(pipe, out, hearts, verification=verification, batch_size=batch_size)
    assert digests(tmp_path / "1") == digests(tmp_path / "4")
    rows = list(load_cines(out, cache_dir=tmp_path / "cache"))
    attempts, errors = [row["attempt"] for row in rows], [abs(row["measured"][LVEF] - 30) for row in rows]
    assert len(set(attempts)) > 1
    assert all(error <= 15 or attempt == 3 for attempt, error in zip(attempts, errors, strict=True))
    assert description["verification"] == {
        "max_error": {"LVEF": 15.0},
        "cines_within_max_error": sum(error <= 15 for error in errors),
        "cines_tried": sum(attempts),
    }
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


def test_the_plan_says_what_the_bytes_follow_from(made):
    plan = json.loads((made[0] / "generation.json").read_text())
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
