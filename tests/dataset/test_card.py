"""The card of a data set: correct numbers, splits that `datasets` finds, the strictest policy."""

import datasets
import numpy as np
import pyarrow.parquet
import pytest
from huggingface_hub import DatasetCard
from PIL import Image

from cpgg_hf.cine import Cine
from cpgg_hf.dataset import CineWriter, load_cines, write_description
from cpgg_hf.dataset.card import write_card
from cpgg_hf.errors import InputError
from cpgg_hf.phantom import sample_phenotypes
from cpgg_hf.phenotypes import NAMES


def write_split(folder, split, phenotypes, policy="phantom", frame_time_ms=20.0):
    with CineWriter(folder, split, shard_size=30) as writer:
        for index, values in enumerate(phenotypes):
            writer.add(
                Cine(
                    pixels=np.full((4, 6, 5), index % 256, np.uint8),
                    frame_time_ms=frame_time_ms + index / 10,
                    subject=f"{split}-{index}",
                    source="phantom",
                    data_policy=policy,
                    phenotypes=values,
                )
            )


@pytest.fixture(scope="module")
def train():
    phenotypes = sample_phenotypes(100, seed=0)
    phenotypes[:40, NAMES.index("LVM")] = np.nan
    phenotypes[:, NAMES.index("WT_Global")] = np.nan
    return phenotypes


@pytest.fixture(scope="module")
def folder(tmp_path_factory, train):
    folder = tmp_path_factory.mktemp("card") / "data"
    write_split(folder, "train", train)
    write_split(folder, "test", sample_phenotypes(7, seed=1))
    write_description(folder, source="phantom", seed=3)
    write_card(folder)
    return folder


def row_of(card, name):
    (line,) = [line for line in card.text.splitlines() if f"| `{name}` |" in line]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_front_matter_says_what_the_hub_asks_for(folder):
    data = DatasetCard.load(folder / "README.md").data
    assert data.license == "apache-2.0"
    assert data.size_categories == ["n<1K"]
    assert data.to_dict()["data_policy"] == "phantom"
    (config,) = data.to_dict()["configs"]
    assert [part["split"] for part in config["data_files"]] == ["train", "test"]


def test_plain_datasets_finds_the_splits_and_shows_previews(folder, tmp_path):
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path))
    assert {split: rows.num_rows for split, rows in loaded.items()} == {"train": 100, "test": 7}
    assert loaded["train"].features["preview"] == datasets.Image()
    picture = loaded["train"][50]["preview"]
    assert picture.size == (10, 6)
    assert np.abs(np.asarray(picture.convert("L")).astype(int) - 50).max() <= 3


def test_counts_means_and_missing_values_are_those_of_the_rows(folder, train):
    card = DatasetCard.load(folder / "README.md")
    assert "| train | 100 | 4 |" in card.text
    assert "| test | 7 | 1 |" in card.text
    assert "4 x 6 x 5 (frames, rows, columns) of uint8, pixels of 1.80 mm, 20.0 to 29.9 ms per frame" in card.text
    lvedv = train[:, NAMES.index("LVEDV")]
    assert row_of(card, "LVEDV")[:5] == ["0", "24100", "`LVEDV`", "mL", f"{lvedv.mean():.4g} ({lvedv.std():.2g})"]
    assert row_of(card, "LVM")[4].endswith(", 60 cines")
    assert row_of(card, "WT_Global")[4] == "not known"
    assert row_of(card, "WT_Global")[5] != "not known"


def test_the_card_lists_every_column_and_its_type(folder):
    text = (folder / "README.md").read_text().partition("## Columns")[2].partition("## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "| `" in line]
    stored = pyarrow.parquet.read_schema(folder / "train-00000-of-00004.parquet")
    assert [row[0].strip("`") for row in rows] == stored.names
    kinds = {row[0].strip("`"): row[1] for row in rows}
    assert kinds["preview"] == "image"
    assert (kinds["measured"], kinds["attempt"], kinds["cine"]) == ("list of double", "int32", "binary")
    assert "<" not in "".join(kinds.values())  # which Markdown would take for a tag


def test_the_plot_is_a_picture_beside_the_card(folder):
    assert "](phenotypes.png)" in (folder / "README.md").read_text()
    with Image.open(folder / "phenotypes.png") as picture:
        assert min(picture.size) > 500
        assert len(set(picture.convert("L").getdata())) > 50


def test_the_card_is_the_same_each_time(folder):
    before = [(folder / name).read_bytes() for name in ("README.md", "phenotypes.png")]
    write_card(folder)
    assert [(folder / name).read_bytes() for name in ("README.md", "phenotypes.png")] == before


@pytest.mark.parametrize("policy", ["restricted", "whatever"])
def test_one_restricted_row_makes_the_set_restricted(tmp_path, policy):
    write_split(tmp_path, "train", sample_phenotypes(3, seed=0))
    write_split(tmp_path, "test", sample_phenotypes(1, seed=0), policy=policy)
    write_description(tmp_path)
    card = DatasetCard.load(write_card(tmp_path))
    assert card.data.to_dict()["data_policy"] == "restricted"
    assert card.data.license == "other"
    assert "must not be published" in card.text


def test_without_phenotypes_or_matplotlib_there_is_no_plot(tmp_path, monkeypatch):
    write_split(tmp_path, "train", [np.full(82, np.nan)] * 3)
    write_description(tmp_path)
    assert "png" not in write_card(tmp_path).read_text()
    monkeypatch.setattr("cpgg_hf.dataset.card.find_spec", lambda name: None)
    write_split(tmp_path, "test", sample_phenotypes(3, seed=0))
    write_description(tmp_path)
    assert "png" not in write_card(tmp_path).read_text()
    assert not (tmp_path / "phenotypes.png").exists()
    assert len(load_cines(tmp_path, "test", cache_dir=tmp_path / "cache")) == 3


def test_a_folder_that_is_no_data_set_gets_no_card(tmp_path):
    with pytest.raises(InputError, match=r"no dataset\.json"):
        write_card(tmp_path)
    assert list(tmp_path.iterdir()) == []
