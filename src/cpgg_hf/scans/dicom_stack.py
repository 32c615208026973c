"""Read the middle slice of a stack in DICOM folders, as short-axis series are exported."""

import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.errors import InputError
from cpgg_hf.scans.dicom import read_dataset, read_dicom_files
from cpgg_hf.scans.dicom_values import numbers_of, value_of

_TAGS = ["ImagePositionPatient", "ImageOrientationPatient", "SeriesInstanceUID"]
_SAME_PLACE_MM = 0.5


def read_middle_slice(folders: Sequence[str | os.PathLike[str]]) -> Cine:
    """Read the middle slice of a stack of parallel DICOM cines; see `read_dicom_files`.

    Slices differ by their position along the plane's normal; a slice that was acquired twice, as two series, counts
    twice.

    Args:
        folders: the folders of one stack; all slices in one, or one in each.

    Raises:
        InputError: no DICOM images with a position, or a middle slice that cannot be used.
    """
    slices = _slices([Path(folder) for folder in folders])
    if not slices:
        raise InputError(
            f"{', '.join(map(str, folders))}: no DICOM image has a position in the patient; "
            "give the folder of one stack."
        )
    middle = sorted(slices)[len(slices) // 2]
    cine = read_dicom_files([(str(path), path) for path in slices[middle]], str(folders[0]))
    if len(slices) == 1:
        return cine
    note = f"{folders[0]}: a stack of {len(slices)} slices; the middle one was taken."
    return replace(cine, warnings=(note, *cine.warnings))


def _slices(folders: list[Path]) -> dict[tuple[int, str], list[Path]]:
    """Files by the position of their plane along its normal, in steps of half a millimetre, and by series."""
    slices: dict[tuple[int, str], list[Path]] = defaultdict(list)
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `read_dicom_files` warns about the chosen slice
        for path in paths:
            with suppress(InputError):  # damaged
                header = read_dataset(str(path), path, stop_before_pixels=True, specific_tags=_TAGS)
                position = numbers_of(header, "ImagePositionPatient", 3)
                orientation = numbers_of(header, "ImageOrientationPatient", 6)
                if position is not None and orientation is not None:
                    depth = float(position @ np.cross(orientation[:3], orientation[3:]))
                    slices[round(depth / _SAME_PLACE_MM), str(value_of(header, "SeriesInstanceUID"))].append(path)
    return slices
