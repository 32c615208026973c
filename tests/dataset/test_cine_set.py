"""`read_cines`: the cines of a data set, or of NIfTI files with a table."""

import numpy as np
import pytest
from noise_sets import write_dataset

from cpgg_hf.cine import Cine
from cpgg_hf.dataset.cine_set import read_cines
from cpgg_hf.errors import InputError, RequestError
from cpgg_hf.phenotypes import phenotype_index, write_csv

LVEF = phenotype_index("LVEF")


def read(folder, split=None):
    return read_cines(
        folder, lambda path: Cine(pixels=np.zeros((8, 4, 4)), frame_time_ms=20.0, origin=path.name), split
    )


def lvef(folder, split=None):
    return [cine.phenotypes[LVEF] for cine in read(folder, split)]


def test_the_rows_of_a_data_set_become_cines(tmp_path):
    (cine,) = read(write_dataset(tmp_path, train=[41]))
    assert np.array_equal(cine.pixels, np.random.default_rng(41).integers(0, 256, (50, 96, 96), dtype=np.uint8))
    assert (cine.spacing_mm, cine.frame_time_ms, cine.subject, cine.data_policy) == ((1.8, 1.8), 18.0, "41", "phantom")


def test_the_only_split_is_read_or_the_test_split_or_the_one_that_is_named(tmp_path):
    generated = write_dataset(tmp_path / "generated", train=[41, 42])
    assert lvef(generated) == [41, 42]
    prepared = write_dataset(tmp_path / "prepared", train=[51], test=[52, 53])
    assert lvef(prepared) == [52, 53]
    assert lvef(prepared, "train") == [51]
    with pytest.raises(RequestError, match=r"has the splits train, validation, no test split"):
        read(write_dataset(tmp_path / "doubtful", train=[1], validation=[2]))
    with pytest.raises(InputError, match=r"has no split 'validation'; it has train, test"):
        read(prepared, "validation")
    (tmp_path / "cine.nii.gz").touch()
    with pytest.raises(RequestError, match=r"is not a data set and has no split 'train'"):
        read(tmp_path, "train")


def test_files_take_their_phenotypes_from_the_table_beside_them(tmp_path):
    with pytest.raises(RequestError, match=r"has neither dataset\.json nor \.nii\.gz files"):
        read(tmp_path)
    for name in ("b", "a"):
        (tmp_path / f"{name}.nii.gz").touch()
    assert [(cine.origin, cine.phenotypes) for cine in read(tmp_path)] == [("a.nii.gz", None), ("b.nii.gz", None)]
    phenotypes = np.full((2, 82), np.nan)
    phenotypes[:, LVEF] = 51, 52
    write_csv(phenotypes, tmp_path / "phenotypes.csv")
    assert lvef(tmp_path) == [51, 52]
    (tmp_path / "c.nii.gz").touch()
    with pytest.raises(RequestError, match=r"has 2 rows for 3 cines; expected one per cine"):
        read(tmp_path)
