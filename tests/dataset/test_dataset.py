"""What is written as a data set comes back, through this package and through plain `datasets`."""

import json
import os

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from datasets.distributed import split_dataset_by_node
from small_cines import write_numbered
from torch.utils.data import DataLoader

from cpgg_hf.cine import Cine
from cpgg_hf.dataset import (
    CineWriter,
    cine_of,
    cine_row,
    decode_cine,
    load_cines,
    write_description,
    write_shard,
)
from cpgg_hf.dataset.stream import CineStream
from cpgg_hf.errors import InputError


def cine_with(pixels: np.ndarray, **fields) -> Cine:
    return Cine(pixels=pixels, frame_time_ms=18.5, spacing_mm=1.7, source="phantom", data_policy="public", **fields)


@pytest.fixture
def cines() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 6, 8, 10), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, cines):
    phenotypes = np.arange(82.0)
    phenotypes[3] = np.nan
    with CineWriter(tmp_path / "data", "train", shard_size=2) as writer:
        for index, cine in enumerate(cines):
            writer.add(
                cine_with(cine, seed=index or None, phenotypes=phenotypes, subject=f"subject-{index}", view="2ch"),
                measured=phenotypes + 1,
                attempt=index,
            )
    write_description(tmp_path / "data", spacing_mm=1.8)
    return tmp_path / "data"


def test_cines_come_back_bit_by_bit_and_in_order(folder, cines, tmp_path):
    loaded = load_cines(folder, cache_dir=tmp_path / "cache")
    assert [row["subject"] for row in loaded] == [f"subject-{index}" for index in range(5)]
    assert np.array_equal(np.stack([decode_cine(row) for row in loaded]), cines)
    assert loaded[0]["seed"] is None
    assert loaded[4]["seed"] == 4
    assert np.array_equal(np.flatnonzero(np.isnan(loaded[2]["phenotypes"])), [3])


def test_the_set_is_mapped_from_disk_not_held_in_memory(folder, tmp_path):
    loaded = load_cines(folder, cache_dir=tmp_path / "cache")
    assert loaded.cache_files
    assert all(str(tmp_path / "cache") in file["filename"] for file in loaded.cache_files)


def test_plain_datasets_reads_the_folder(folder, cines, tmp_path):
    shards = sorted(str(path) for path in folder.glob("train-*-of-00003.parquet"))
    stream = datasets.load_dataset("parquet", data_files={"train": shards}, split="train", streaming=True)
    assert np.array_equal(np.stack([decode_cine(row) for row in stream]), cines)
    whole = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert whole["train"].num_rows == 5


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_hold_the_cine_as_it_is_used(folder, cines, tmp_path, streaming):
    cache = {} if streaming else {"cache_dir": tmp_path / "cache"}
    rows = list(load_cines(folder, streaming=streaming, **cache))
    assert np.array_equal(np.stack([row["cine"] for row in rows]), cines)
    assert rows[0]["cine"].dtype == np.uint8
    assert rows[0]["phenotypes"].shape == (82,)
    assert "preview" not in rows[0]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_loader_batches_cines_and_phenotypes(folder, cines, tmp_path, streaming):
    cache = {} if streaming else {"cache_dir": tmp_path / "cache"}
    rows = load_cines(folder, streaming=streaming, **cache).select_columns(["cine", "shape", "phenotypes"])
    batches = list(DataLoader(rows, batch_size=4))
    assert np.array_equal(np.concatenate([batch["cine"].numpy() for batch in batches]), cines)
    assert [tuple(batch["phenotypes"].shape) for batch in batches] == [(4, 82), (1, 82)]


def test_a_plain_stream_is_shared_and_resumed_by_the_means_of_datasets(folder):
    stream = load_cines(folder, streaming=True)
    parts = [split_dataset_by_node(stream, rank, 2) for rank in range(2)]
    assert sorted(row["subject"] for part in parts for row in part) == [f"subject-{index}" for index in range(5)]
    rows = iter(stream)
    begun = [next(rows)["subject"] for _ in range(3)]
    restarted = load_cines(folder, streaming=True)
    restarted.load_state_dict(stream.state_dict())
    assert begun + [row["subject"] for row in restarted] == [f"subject-{index}" for index in range(5)]
    assert len(list(rows)) == 2


def test_columns_can_be_chosen_but_a_cine_needs_its_shape(folder, tmp_path):
    rows = load_cines(folder, cache_dir=tmp_path / "cache")
    assert rows.select_columns(["subject", "phenotypes"])[1]["subject"] == "subject-1"
    with pytest.raises(InputError, match="the column 'cine' needs the column 'shape'; select both or neither"):
        rows.select_columns(["cine"])[0]


def test_data_of_an_older_format_say_what_to_do(folder, cines):
    description = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**description, "format_version": 1}))
    with pytest.raises(InputError, match="has format version 1, this package reads version 2; prepare the data"):
        load_cines(folder)
    (folder / "dataset.json").write_text(json.dumps(description))
    shard = sorted(folder.glob("train-*"))[1]
    old = pyarrow.parquet.read_table(shard).drop_columns(["preview"]).replace_schema_metadata({"cpgg_plan": "x"})
    pyarrow.parquet.write_table(old, shard)
    with pytest.raises(InputError, match=f"{shard.name} has format version 1"):
        load_cines(folder)


def test_rows_can_be_read_and_written_again(folder, tmp_path):
    source = folder / "train-00000-of-00003.parquet"
    rows = pyarrow.parquet.read_table(source).to_pylist()
    write_shard(rows, tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == source.read_bytes()


def test_float_cines_are_rounded_to_255_levels():
    pixels = np.random.default_rng(1).random((4, 5, 6))
    assert np.abs(decode_cine(cine_row(cine_with(pixels))) / 255 - pixels).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_a_row_is_the_cine_that_was_written(folder, cines, tmp_path, streaming, plain):
    cache = {} if streaming else {"cache_dir": str(tmp_path / "cache")}
    load = (
        (lambda: datasets.load_dataset(str(folder), split="train", streaming=streaming, **cache))
        if plain
        else (lambda: load_cines(folder, streaming=streaming, **cache))
    )
    first, *_, last = load()
    cine = cine_of(last)
    assert np.array_equal(cine.pixels, cines[4])
    assert (cine.spacing_mm, cine.frame_time_ms, cine.view) == ((1.7, 1.7), 18.5, "2ch")
    assert (cine.subject, cine.source, cine.data_policy) == ("subject-4", "phantom", "public")
    np.testing.assert_array_equal(cine.phenotypes, [np.nan if index == 3 else index for index in range(82)])
    assert (cine.seed, cine.acquired, cine_of(first).seed, cine_of(first).acquired) == (4, False, None, True)
    np.testing.assert_array_equal(last["measured"], cine.phenotypes + 1)
    assert last["attempt"] == 4
    assert cine_row(cine)["cine"] == cine_row(cine_with(cines[4]))["cine"]


@pytest.mark.parametrize(
    ("cine", "message"),
    [
        (cine_with(np.full((4, 5, 6), 900.0), scanner_units=True), "scanner's units; prepare it first"),
        (Cine(pixels=np.zeros((4, 5, 6)), frame_time_ms=1.0, spacing_mm=(1.0, 2.0)), "expected square ones"),
    ],
)
def test_cines_that_were_not_prepared_are_refused(cine, message):
    with pytest.raises(ValueError, match=message):
        cine_row(cine)


def test_an_interrupted_writer_leaves_nothing(tmp_path, cines):
    def interrupted() -> None:
        with CineWriter(tmp_path, "train", shard_size=1) as writer:
            writer.add(cine_with(cines[0]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_shard_is_noticed(folder):
    (folder / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(InputError, match="2 shards of the split 'train' where 3 are expected"):
        load_cines(folder)


def test_an_absent_split_is_named_with_those_that_exist(folder):
    with pytest.raises(InputError, match="no split 'test'; it has train"):
        load_cines(folder, split="test")


def test_a_damaged_or_foreign_shard_is_named(folder):
    shard = sorted(folder.glob("train-*"))[1]
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(InputError, match=f"{shard.name} is not a readable parquet shard .*; download it again"):
        load_cines(folder)
    pyarrow.parquet.write_table(pyarrow.table({"image": [1]}), shard)
    with pytest.raises(InputError, match=f"{shard.name} is not a shard of cines: it lacks the column 'cine'"):
        load_cines(folder)


def test_an_unfinished_set_is_no_set(tmp_path, cines):
    with CineWriter(tmp_path, "train") as writer:
        writer.add(cine_with(cines[0]))
    with pytest.raises(InputError, match=r"no dataset\.json"):
        load_cines(tmp_path)


def test_a_split_is_not_written_twice(folder):
    with pytest.raises(InputError, match="exists already"):
        CineWriter(folder, "train")


def test_slices_and_folders_with_any_name(tmp_path):
    folder = write_numbered(tmp_path / "site [A] *?", 20)
    cache = {"cache_dir": tmp_path / "cache"}
    assert [row["subject"] for row in load_cines(folder, "train[3:5]", **cache)] == ["train-3", "train-4"]
    assert len(load_cines(folder, "train[:50%]", **cache)) == 10
    assert len(list(load_cines(folder, streaming=True))) == 20
    with pytest.raises(InputError, match="a stream has no slices"):
        load_cines(folder, "train[:3]", streaming=True)


def test_a_single_changed_bit_of_a_shard_is_refused_wherever_it_lies(folder, tmp_path):
    (shard,) = folder.glob("train-00000-*.parquet")
    whole, generator = shard.read_bytes(), np.random.default_rng(0)
    for place in generator.integers(len(whole), size=40):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(generator.integers(8))
        shard.write_bytes(damaged)
        for read in (lambda: load_cines(folder, cache_dir=tmp_path)[:], lambda: list(CineStream(folder, seed=None))):
            with pytest.raises(InputError, match=shard.name):
                read()
    shard.write_bytes(whole)
    assert len(list(CineStream(folder, batch_size=1, seed=None))) == len(load_cines(folder, cache_dir=tmp_path))


def test_pages_carry_checksums_for_readers_without_the_description(folder):
    (shard,) = folder.glob("train-00000-*.parquet")
    metadata = pyarrow.parquet.read_metadata(shard).row_group(0)
    column = metadata.column(metadata.num_columns - 1)
    damaged = bytearray(shard.read_bytes())
    damaged[column.data_page_offset + column.total_compressed_size - 3] ^= 1
    shard.write_bytes(damaged)
    with pytest.raises(OSError, match=r"(?i)crc|checksum"):
        pyarrow.parquet.read_table(shard, page_checksum_verification=True)


def test_a_data_set_without_checksums_is_read_as_before(folder, tmp_path):
    path = folder / "dataset.json"
    description = json.loads(path.read_text())
    del description["sha256"]
    path.write_text(json.dumps(description))
    assert len(load_cines(folder, cache_dir=tmp_path)) == len(list(CineStream(folder, batch_size=1, seed=None)))


def test_pipes_and_deep_json_are_refused_at_once(folder):
    for name, message in (("train-00000-of-00003.parquet", "it is not a file"), ("dataset.json", "it is not a file")):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(InputError, match=message):
            load_cines(folder)
        (folder / name).unlink()
        (folder / name).write_bytes(content)
    (folder / "dataset.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="cannot be read"):
        load_cines(folder)


def test_a_missing_split_of_a_relative_folder_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    write_numbered(tmp_path / "outputs" / "set", 3)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="test"):
        load_cines("outputs/set", "test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cines_per_shard": [3, 3, 0]}, "add up"),
        ({"cines_per_shard": [3, 3]}, "add up"),
        ({"cines_per_shard": 3}, "add up"),
        ({"num_cines": 8}, "add up"),
        ({"num_shards": 10**30}, "add up"),
        (None, "add up"),
    ],
)
def test_a_damaged_description_is_refused(tmp_path, change, message):
    folder = write_numbered(tmp_path / "set", 7)
    path = folder / "dataset.json"
    description = json.loads(path.read_text())
    description["splits"]["train"] = None if change is None else description["splits"]["train"] | change
    path.write_text(json.dumps(description))
    for read in (load_cines, CineStream):
        with pytest.raises(InputError, match=message):
            read(folder, "train")


@pytest.mark.parametrize("change", [{"splits": [1]}, {"splits": None}, {"sha256": 1}])
def test_a_description_of_another_shape_is_refused(tmp_path, change):
    folder = write_numbered(tmp_path / "set", 2)
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match="must be objects"):
        load_cines(folder)


def test_a_copy_that_a_browser_named_is_no_shard(tmp_path):
    folder = write_numbered(tmp_path / "set", 2)
    (folder / "train-00000-of-00001 (1).parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"\(1\)\.parquet, which is no shard"):
        load_cines(folder)
