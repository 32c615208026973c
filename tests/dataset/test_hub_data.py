"""A data set on a hub, over real HTTP: loaded, streamed and resumed as a folder is."""

import subprocess
import sys
from itertools import islice

import datasets
import numpy as np
import pytest
from huggingface_hub import HfApi
from small_cines import numbers, write_numbered
from torch.utils.data import DataLoader

from cpgg_hf.dataset import load_cines
from cpgg_hf.dataset.stream import CineStream
from cpgg_hf.errors import InputError

REPOSITORY = "user/numbered"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_numbered(tmp_path_factory.mktemp("hub") / "data", 160)


@pytest.fixture(scope="module")
def repository(hub, folder):
    api = HfApi()
    api.create_repo(REPOSITORY, repo_type="dataset")
    api.upload_folder(repo_id=REPOSITORY, folder_path=folder, repo_type="dataset")
    return REPOSITORY


def test_rows_come_from_the_hub_as_from_the_folder(repository, tmp_path):
    loaded = load_cines(repository, cache_dir=tmp_path / "cache")
    assert [row["phenotypes"][0] for row in loaded] == list(range(160))
    stream = load_cines(repository, "train", streaming=True)
    assert isinstance(stream, datasets.IterableDataset)
    rows = list(stream)
    assert [row["subject"] for row in rows] == [f"train-{number}" for number in range(160)]
    assert np.array_equal(np.stack([row["cine"] for row in rows])[:, 0, 0, 0], np.arange(160))


@pytest.mark.parametrize("streaming", [False, True])
def test_plain_datasets_reads_the_hub_with_nothing_of_this_package(repository, tmp_path, streaming):
    options = {} if streaming else {"cache_dir": str(tmp_path)}
    splits = datasets.load_dataset(repository, streaming=streaming, **options)
    assert list(splits) == ["train"]
    rows = splits["train"]
    assert rows.features["preview"] == datasets.Image()
    assert rows.features["phenotypes"] == datasets.List(datasets.Value("float64"))
    assert rows.features["cine"] == datasets.Value("binary")
    for number, row in enumerate(rows):
        assert row["preview"].size == (4, 3)
        differences = np.frombuffer(row["cine"], np.uint8).reshape(row["shape"])
        assert (np.cumsum(differences, axis=0, dtype=np.uint8) == number).all()  # as the card says
        assert row["phenotypes"] == [number] * 82
    assert number == 159


def test_a_shuffled_stream_from_the_hub_equals_that_from_the_folder_and_resumes(repository, folder):
    local = numbers(CineStream(folder, batch_size=16))
    stream = CineStream(repository, batch_size=16)
    begun = numbers(islice(stream, 4))
    restarted = CineStream(repository, batch_size=16)
    restarted.load_state_dict(stream.state_dict())
    assert begun + numbers(restarted) == local


def test_workers_stream_from_the_hub(repository):
    loader = DataLoader(CineStream(repository, batch_size=16), batch_size=None, num_workers=2)
    assert sorted(numbers(loader)) == list(range(160))


def test_a_stream_fetches_what_it_gives_and_no_more(hub, repository, folder):
    hub.httpd.log.clear()
    assert len(numbers(islice(CineStream(repository, batch_size=16, groups_per_window=1), 1))) == 16
    fetched = {entry["path"] for entry in hub.httpd.log if entry["path"].startswith("/cdn/")}
    assert 1 <= len(fetched) < len(list(folder.glob("*.parquet")))
    assert all(
        entry["range"] for entry in hub.httpd.log if entry["path"].startswith("/cdn/") and entry["method"] == "GET"
    )


def test_a_stream_keeps_to_the_commit_that_it_was_opened_at(repository, folder, tmp_path):
    stream = CineStream(repository, batch_size=16)
    before = numbers(stream)
    changed = write_numbered(tmp_path / "data", 10)
    api = HfApi()
    commit = api.dataset_info(repository).sha
    api.upload_folder(repo_id=repository, folder_path=changed, repo_type="dataset", delete_patterns="*.parquet")
    try:
        assert numbers(stream) == before
        assert len(numbers(CineStream(repository))) == 10
        assert numbers(CineStream(repository, batch_size=16, revision=commit)) == before
        assert len(list(load_cines(repository, streaming=True, revision=commit))) == 160
    finally:
        api.upload_folder(repo_id=repository, folder_path=folder, repo_type="dataset", delete_patterns="*.parquet")


def test_what_is_no_data_set_on_the_hub_is_said(hub, repository):
    with pytest.raises(InputError, match="user/absent is not a local folder, and no data set could be read"):
        load_cines("user/absent")
    with pytest.raises(InputError, match="has no split 'test'; it has train"):
        CineStream(repository, "test")
    HfApi().create_repo("user/empty", repo_type="dataset")
    with pytest.raises(InputError, match=r"user/empty has no dataset\.json"):
        load_cines("user/empty")
    with pytest.raises(InputError, match="no data set could be read from the Hub"):
        load_cines(repository, revision="nowhere")


def test_an_unfinished_upload_is_noticed(repository, folder):
    HfApi().create_repo("user/half", repo_type="dataset")
    HfApi().upload_folder(repo_id="user/half", folder_path=folder, repo_type="dataset", ignore_patterns="train-00001*")
    with pytest.raises(InputError, match="user/half holds 2 shards of the split 'train' where 3 are expected"):
        CineStream("user/half")


def test_a_hub_out_of_reach_is_one_sentence(tmp_path):
    command = [sys.executable, "-c", "from cpgg_hf.dataset import load_cines; load_cines('user/numbered')"]
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path)}
    failed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "InputError: user/numbered is not a local folder, and no data set could be read" in failed.stderr


def test_rows_that_datasets_itself_pushed_are_read(hub, folder, tmp_path):
    rows = load_cines(folder, split="train[:3]", cache_dir=tmp_path / "cache")
    rows.push_to_hub("user/pushed", split="train")
    loaded = load_cines("user/pushed", cache_dir=tmp_path / "other")
    assert [row["subject"] for row in loaded] == ["train-0", "train-1", "train-2"]
    assert np.array_equal(loaded[2]["cine"], rows[2]["cine"])
    with pytest.raises(InputError):
        load_cines("user/pushed", "test", cache_dir=tmp_path / "other")
