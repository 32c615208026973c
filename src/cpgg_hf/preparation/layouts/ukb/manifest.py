"""The manifest of a UK Biobank zip, which lists the series of each file.

It is called `manifest.csv` or `manifest.cvs`, its column is headed "series discription", and dates such as
"Aug 30, 2015" are not quoted, so their comma splits the row. Rows that do not fit the header even then are skipped.
"""

import csv
import re
import zipfile

from cpgg_hf.scans.safe_zip import base_name, members_of, read_member

_NAMES = ("manifest.csv", "manifest.cvs")
_DATE = re.compile(r"\b([A-Z][a-z]{2,8} \d{1,2}), (\d{4})\b")
_FILE_COLUMN = "filename"
_SERIES_COLUMN = re.compile(r"series d[ie]scription")


def read_manifest(archive: zipfile.ZipFile) -> dict[str, str]:
    """The series description of each file, by the file's name without folders; empty if there is no manifest."""
    found = [info for info in members_of(archive) if base_name(info).lower() in _NAMES]
    return parse_manifest(read_member(archive, found[0]).decode("utf-8-sig", errors="replace")) if found else {}


def parse_manifest(text: str) -> dict[str, str]:
    """The series description of each file in a manifest's text; rows that do not fit the header are skipped."""
    rows = [row for line in text.splitlines() if (row := _fields(line))]
    if not rows:
        return {}
    header = [column.lower() for column in rows[0]]
    described = [index for index, column in enumerate(header) if _SERIES_COLUMN.fullmatch(column)]
    if _FILE_COLUMN not in header or not described:
        return {}
    file, series = header.index(_FILE_COLUMN), described[0]
    return {row[file]: row[series] for row in rows[1:] if len(row) == len(header) and row[file] and row[series]}


def _fields(line: str) -> list[str]:
    try:
        return [field.strip() for field in next(csv.reader([_DATE.sub(r"\1 \2", line)], strict=True), [])]
    except csv.Error:
        return []
