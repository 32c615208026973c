"""List the DICOM series of a zip by their headers, and read one of them, without unpacking the zip to disk."""

import io
import warnings
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.errors import InputError
from cpgg_hf.plane import plane_normal
from cpgg_hf.scans.dicom import read_dicom_files
from cpgg_hf.scans.dicom_images import read_dataset
from cpgg_hf.scans.dicom_values import number_of, numbers_of, value_of
from cpgg_hf.scans.safe_zip import members_of, name_of, open_member, read_member

_TAGS = ["SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "ImageOrientationPatient", "Rows"]


@dataclass(frozen=True)
class ZippedSeries:
    """A series in a zip, as the headers of its images describe it.

    Attributes:
        description: SeriesDescription; empty if absent.
        number: SeriesNumber, which rises over an examination; -1 if absent.
        normal: (3,) unit normal of the plane in patient coordinates; None if absent.
        members: its images in the zip.
    """

    description: str
    number: int
    normal: np.ndarray | None
    members: tuple[zipfile.ZipInfo, ...]


def list_series(archive: zipfile.ZipFile) -> tuple[list[ZippedSeries], tuple[str, ...]]:
    """The series of an archive from `open_zip`, in the order of their numbers, and warnings.

    Files that are not images are skipped; so are damaged ones, with a warning: they may belong to another series.

    Raises:
        ImportError: pydicom is not installed.
    """
    headers: dict[str, list[tuple[zipfile.ZipInfo, Any]]] = defaultdict(list)
    num_damaged = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `read_zipped_series` warns about odd values of the series that it reads
        for info in members_of(archive):
            try:
                with open_member(archive, info) as stream:
                    header = read_dataset(name_of(archive, info), stream, stop_before_pixels=True, specific_tags=_TAGS)
            except InputError:
                num_damaged += 1
                continue
            if header is not None and "Rows" in header:
                headers[str(value_of(header, "SeriesInstanceUID"))].append((info, header))
        series = [_series_of(members) for members in headers.values()]
    notes = (f"{archive.filename}: {num_damaged} damaged files were skipped.",) if num_damaged else ()
    return sorted(series, key=lambda one: one.number), notes


def _series_of(members: list[tuple[zipfile.ZipInfo, Any]]) -> ZippedSeries:
    first = members[0][1]
    number = number_of(first, "SeriesNumber")
    orientation = numbers_of(first, "ImageOrientationPatient", 6)
    return ZippedSeries(
        description=str(value_of(first, "SeriesDescription") or ""),
        number=-1 if number is None else int(number),
        normal=None if orientation is None else plane_normal(orientation),
        members=tuple(info for info, _ in members),
    )


def read_zipped_series(archive: zipfile.ZipFile, series: ZippedSeries) -> Cine:
    """Read one of the series of `list_series`; errors and warnings as in `read_dicom_files`."""
    files = ((name_of(archive, info), io.BytesIO(read_member(archive, info))) for info in series.members)
    return read_dicom_files(files, str(archive.filename))
