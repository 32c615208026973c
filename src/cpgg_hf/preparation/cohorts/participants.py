"""Recognises participants' identifiers with the pseudonym key and the cohorts prepared with it."""

import json
import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from cpgg_hf.dataset import SPLITS, find_shards
from cpgg_hf.errors import InputError
from cpgg_hf.preparation.cohorts.pseudonyms import pseudonym, read_key
from cpgg_hf.preparation.cohorts.report import REPORT_FILE


def participants(key_file: str | os.PathLike[str], cohorts: Iterable[str | os.PathLike[str]]) -> Callable[[str], bool]:
    """A test of whether an identifier, such as `"1234567"`, is that of a subject of the cohorts.

    Args:
        key_file: key that the cohorts were prepared with.
        cohorts: folders of data sets that `cpgg prepare` wrote.

    Raises:
        InputError: no key there, or no data set, or one without subjects.
    """
    import pyarrow.parquet as pq

    if not Path(key_file).is_file():
        raise InputError(f"there is no key file {key_file}; give the one that the cohort was prepared with.")
    names: set[str] = set()
    for cohort in cohorts:
        key = read_key(key_file, cohort)
        paths = [path for split in SPLITS for path in find_shards(cohort, split)]
        if not paths:
            raise InputError(f"{cohort} holds no cine data set; give the folder that `cpgg prepare` wrote.")
        for path in paths:
            names.update(pq.read_table(path, columns=["subject"])["subject"].to_pylist())
        report = Path(cohort) / REPORT_FILE
        if report.is_file():  # excluded subjects are participants too
            names.update(record["subject"] for record in json.loads(report.read_text(encoding="utf-8"))["subjects"])
    if not names:
        raise InputError(
            "no subjects found in the cohorts; pass the data sets prepared with the key file (--cohort), which "
            "identifies participants only together with them."
        )

    @cache
    def is_participant(identifier: str) -> bool:
        return pseudonym(identifier, key) in names

    return is_participant
