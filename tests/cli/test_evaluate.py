"""What `cpgg measure` reports: values that hearts have, a sentence for the others; what `cpgg evaluate` reads."""

from pathlib import Path

import numpy as np
import pytest

from cpgg_hf.cine import Cine
from cpgg_hf.cli.cines import read_cine_set
from cpgg_hf.cli.main import main
from cpgg_hf.commands.evaluation import plausible
from cpgg_hf.dataset import cine_row, shard_path, write_description, write_shard
from cpgg_hf.errors import InputError, RequestError
from cpgg_hf.phenotypes import PHENOTYPES, phenotype_index


def test_what_no_heart_has_is_left_out_and_said():
    row = np.full(82, np.nan)
    row[phenotype_index("LVEF")], row[phenotype_index("RVEF")] = 61.0, -78.8
    row[phenotype_index("RVEDV")] = 162.0  # of a chamber that was not segmented well
    values, doubts = plausible(row)
    assert values == {"LVEF": 61.0}
    (doubt,) = doubts
    low = PHENOTYPES[phenotype_index("RVEF")].minimum
    assert doubt.startswith(f"RVEF came out as -78.8 %, hearts have {low:g} to")


def write_dataset(folder, **seeds):
    """A data set with one noise cine a seed, whose LVEF is the seed; splits by name."""
    for split, of_split in seeds.items():
        rows = []
        for seed in of_split:
            phenotypes = np.full(82, np.nan)
            phenotypes[phenotype_index("LVEF")] = seed
            cine = np.random.default_rng(seed).integers(0, 256, (50, 96, 96), dtype=np.uint8)
            details = {"frame_time_ms": 18.0, "subject": str(seed), "source": "test", "data_policy": "phantom"}
            rows.append(cine_row(Cine(pixels=cine, phenotypes=phenotypes, **details)))
        write_shard(rows, shard_path(folder, split, 0, 1))
    write_description(folder)
    return folder


def lvef(folder, split=None):
    return read_cine_set(folder, split).phenotypes[:, phenotype_index("LVEF")].tolist()


def test_the_only_split_is_read_or_the_test_split_or_the_one_that_is_named(tmp_path):
    generated = write_dataset(tmp_path / "generated", train=[41, 42])
    assert lvef(generated) == [41, 42]
    prepared = write_dataset(tmp_path / "prepared", train=[51], test=[52, 53])
    assert lvef(prepared) == [52, 53]
    assert lvef(prepared, "train") == [51]
    with pytest.raises(RequestError, match=r"has the splits train, validation, no test split"):
        read_cine_set(write_dataset(tmp_path / "doubtful", train=[1], validation=[2]))
    with pytest.raises(InputError, match=r"has no split 'validation'; it has train, test"):
        read_cine_set(prepared, "validation")
    (tmp_path / "cine.nii.gz").touch()
    with pytest.raises(RequestError, match=r"is no data set and has no split 'train'"):
        read_cine_set(tmp_path, "train")


def test_both_questions_take_what_was_generated_and_the_splits_that_are_named(tmp_path, monkeypatch):
    """Of `cpgg generate --format parquet`, which writes a training split, as of any other data set."""
    generated = write_dataset(tmp_path / "generated", train=[41])
    true = write_dataset(tmp_path / "true", train=[51], test=[52])
    asked = []

    def stop(folder, split=None):
        asked.append((Path(folder).name, lvef(folder, split)))
        if len(asked) > 1:
            raise RequestError("enough was read.")
        return read_cine_set(folder, split)

    monkeypatch.setattr("cpgg_hf.commands.evaluation.read_cine_set", stop)
    monkeypatch.setattr("cpgg_hf.commands.evaluation.load_segmenter", lambda _: 1 / 0)
    assert main(["evaluate", "fidelity", str(generated), str(true)]) == 1
    assert asked == [("generated", [41.0]), ("true", [52.0])]
    asked.clear()
    assert main(["evaluate", "fidelity", str(true), str(true), "--split", "test", "--true-split", "train"]) == 1
    assert asked == [("true", [52.0]), ("true", [51.0])]
    asked.clear()
    assert main(["evaluate", "controllability", str(generated)]) == 1
    assert main(["evaluate", "controllability", str(true), "--split", "train"]) == 1
    assert asked == [("generated", [41.0]), ("true", [51.0])]
