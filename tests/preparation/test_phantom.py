"""Phantom data sets: the same cine for the same seed and index, however they are made."""

import hashlib
import shutil

import numpy as np
import pytest

from cpgg_hf import phantom
from cpgg_hf.dataset import decode_cine, load_cines
from cpgg_hf.errors import InputError, OutputError, RequestError
from cpgg_hf.preparation.phantom import phantom_cine, prepare_phantom
from cpgg_hf.shards import locked


def digests(folder) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    description = prepare_phantom(folder, 3, 1, 1, seed=7, shard_size=2, progress=False)
    return folder, description


def test_the_set_holds_what_was_requested(made, tmp_path):
    folder, description = made
    assert {split: counts["num_cines"] for split, counts in description["splits"].items()} == {
        "train": 3,
        "validation": 1,
        "test": 1,
    }
    assert description["population_version"] == phantom.POPULATION_VERSION
    rows = load_cines(folder, "train", cache_dir=tmp_path)
    assert len(rows) == 3
    expected = phantom.render(np.array(rows[1]["phenotypes"]), rows[1]["seed"])
    assert np.array_equal(decode_cine(rows[1]), expected.cine.pixels)
    assert rows[1]["frame_time_ms"] == pytest.approx(expected.cine.frame_time_ms)
    assert "| train | 3 | 2 |" in (folder / "README.md").read_text()
    assert (folder / "phenotypes.png").exists()


def test_two_processes_write_the_same_bytes(made, tmp_path):
    folder, _ = made
    prepare_phantom(tmp_path / "again", 3, 1, 1, seed=7, num_processes=2, shard_size=2, progress=False)
    assert digests(tmp_path / "again") == digests(folder)


def test_an_interrupted_set_is_finished_to_the_same_bytes(made, tmp_path, monkeypatch):
    folder, _ = made
    rendered = []

    def render(phenotypes, seed, own=phantom.render):
        if len(rendered) == 2:
            raise KeyboardInterrupt
        rendered.append(seed)
        return own(phenotypes, seed)

    with monkeypatch.context() as patch:
        patch.setattr(phantom, "render", render)
        with pytest.raises(KeyboardInterrupt):
            prepare_phantom(tmp_path / "b", 3, 1, 1, seed=7, shard_size=2, progress=False)
    assert [path.name for path in (tmp_path / "b").glob("[!.]*")] == ["train-00000-of-00002.parquet"]
    before = (tmp_path / "b/train-00000-of-00002.parquet").stat().st_mtime_ns
    prepare_phantom(tmp_path / "b", 3, 1, 1, seed=7, shard_size=2, progress=False)
    assert (tmp_path / "b/train-00000-of-00002.parquet").stat().st_mtime_ns == before
    assert digests(tmp_path / "b") == digests(folder)


def test_no_two_cines_share_a_seed():
    cines = [phantom_cine(seed, split, index) for seed in (0, 1) for split in ("train", "test") for index in (0, 1)]
    assert len({cine.seed for cine in cines}) == 8


def test_a_cine_depends_on_seed_split_and_index_only(made, tmp_path):
    folder, _ = made
    expected = phantom_cine(7, "validation", 0).pixels
    assert np.array_equal(load_cines(folder, "validation", cache_dir=tmp_path)[0]["cine"], expected)


@pytest.mark.parametrize("changes", [{"seed": 8}, {"shard_size": 3}, {"num_train": 4}])
def test_another_sets_folder_is_refused_and_left_alone(made, changes):
    folder, _ = made
    before = digests(folder)
    arguments = {"num_train": 3, "num_validation": 1, "num_test": 1, "seed": 7, "shard_size": 2, **changes}
    with pytest.raises(RequestError, match="choose another folder"):
        prepare_phantom(folder, progress=False, **arguments)
    assert digests(folder) == before


def test_a_negative_seed_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0, given -1"):
        prepare_phantom(tmp_path / "out", 1, seed=-1)
    assert list(tmp_path.iterdir()) == []


def test_data_of_an_unknown_plan_is_left_alone(made, tmp_path):
    folder, _ = made
    shutil.copytree(folder, tmp_path / "old", ignore=shutil.ignore_patterns(".shards"))
    with pytest.raises(InputError, match="was made differently; choose another folder"):
        prepare_phantom(tmp_path / "old", 3, 1, 1, seed=7, shard_size=2, progress=False)


def test_a_refused_run_leaves_the_plan_alone(tmp_path):
    with locked(tmp_path, "phantoms"), pytest.raises(OutputError, match="another run"):
        prepare_phantom(tmp_path, 1, seed=9, progress=False)
    assert prepare_phantom(tmp_path, 1, seed=1, progress=False)["seed"] == 1
