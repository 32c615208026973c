"""All cines of a folder: a split of a data set, or NIfTI files with a table of phenotypes."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cpgg_hf.cine import Cine
from cpgg_hf.dataset.loading import load_cines
from cpgg_hf.dataset.parquet import DESCRIPTION_FILE, read_description
from cpgg_hf.dataset.rows import cine_of
from cpgg_hf.errors import InputError, RequestError, advising_only
from cpgg_hf.phenotypes import read_csv


def read_cines(
    folder: str | os.PathLike[str], read_file: Callable[[Path], Cine], split: str | None = None
) -> list[Cine]:
    """The cines of a folder, with the phenotypes that are known.

    Args:
        folder: a data set, or `.nii.gz` files and, in their order, the rows of `phenotypes.csv`.
        read_file: reads one NIfTI file.
        split: split of a data set; None is its only split, or of several the test split.

    Raises:
        RequestError: it is neither, or has no such split.
        InputError: a file cannot be used.
    """
    folder = Path(folder)
    if (folder / DESCRIPTION_FILE).is_file():
        return [cine_of(row) for row in load_cines(folder, split or _only_or_test(folder))]
    paths = sorted(folder.glob("*.nii.gz"))
    if not paths:
        raise RequestError(f"{folder} has neither {DESCRIPTION_FILE} nor .nii.gz files; give a folder of cines.")
    if split is not None:
        raise RequestError(f"{folder} is not a data set and has no split {split!r}; leave the split out.")
    table = folder / "phenotypes.csv"
    if not table.is_file():
        return [_read(read_file, path) for path in paths]
    phenotypes = read_csv(table)
    if len(phenotypes) != len(paths):
        raise RequestError(f"{table} has {len(phenotypes)} rows for {len(paths)} cines; expected one per cine.")
    return [replace(_read(read_file, path), phenotypes=row) for path, row in zip(paths, phenotypes, strict=True)]


def _read(read_file: Callable[[Path], Cine], path: Path) -> Cine:
    try:
        return read_file(path)
    except InputError as error:
        raise InputError(advising_only(str(error), set())) from None  # one setting would not suit all files


def _only_or_test(folder: Path) -> str:
    splits = list(read_description(folder)["splits"])
    if len(splits) == 1:
        return splits[0]
    if "test" not in splits:
        raise RequestError(f"{folder} has the splits {', '.join(splits) or 'none'}, no test split; name one.")
    return "test"
