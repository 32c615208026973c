"""Read DICOM files as one cine: one series, one slice, sorted by time."""

import os
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.errors import InputError, brief
from cpgg_hf.optional import import_optional
from cpgg_hf.scans.checks import check_num_frames, check_rr_ms, check_size, make_scan, one_beat, plausible_thickness_mm
from cpgg_hf.scans.dicom_cines import DicomCine, choose_cine, depth_of, find_cines
from cpgg_hf.scans.dicom_images import DicomFile, DicomImage, pixels_of, read_images
from cpgg_hf.scans.dicom_times import in_order_of_time
from cpgg_hf.scans.dicom_values import number_of, numbers_of, value_of
from cpgg_hf.scans.files import files_below

_SPACING_TOLERANCE_MM = 1e-3


def read_dicom_folder(
    folder: str | os.PathLike[str], rr_ms: float | None = None, *, series: str | None = None
) -> Cine:
    """Read the only cine of a folder, sub-folders included; see `read_dicom_files`.

    Args:
        folder: a folder of DICOM files; other files are skipped with a warning.
        rr_ms: as in `read_dicom_files`.
        series: as in `read_dicom_files`.

    Raises:
        InputError: not a folder, or files that `read_dicom_files` refuses.
        ImportError: pydicom is not installed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder that holds the DICOM files of one series.")
    return read_dicom_files(((str(path), path) for path in files_below(folder)), str(folder), rr_ms, series=series)


def read_dicom_files(
    files: Iterable[DicomFile], origin: str, rr_ms: float | None = None, *, series: str | None = None
) -> Cine:
    """Read one cine from single-frame DICOM files, or from Enhanced MR files.

    Frames are sorted by TriggerTime; if that is missing, by TemporalPositionIdentifier or InstanceNumber, and taken as
    evenly spread over the beat, with a warning. Phase images and those of other modalities are left out, with a
    warning. Values that break DICOM's rules are read as they are, with a warning.

    Args:
        files: each file's name for messages, and its path or stream.
        origin: their folder or archive, for messages.
        rr_ms: length of the heart beat, for files that do not state it, or hold several beats.
        series: which cine of several, see `DicomCine.label`; the error for several cines lists them.

    Raises:
        InputError: no images, several cines, frames that differ in size or spacing or are missing, damaged files, no
            usable times.
        ImportError: pydicom is not installed.
    """
    return _read(files, origin, rr_ms, lambda cines: choose_cine(cines, series, origin))


def read_middle_slice(folders: Iterable[str | os.PathLike[str]]) -> Cine:
    """Read the middle slice of a stack of parallel DICOM cines; see `read_dicom_files`.

    Slices differ by their position along the plane's normal; a slice that was acquired twice counts twice. Damaged
    files are skipped: they may belong to another slice.

    Args:
        folders: the folders of one stack; all slices in one, or one in each.

    Raises:
        InputError: no DICOM images with a position, or a middle slice that cannot be used.
    """
    places = [Path(folder) for folder in folders]
    origin = str(places[0])

    def middle(cines: list[DicomCine]) -> DicomCine:
        depths = [(depth, index) for index, one in enumerate(cines) if (depth := depth_of(one)) is not None]
        if not depths:
            raise InputError(f"{origin}: no DICOM image has a position in the patient; give the folder of one stack.")
        return cines[sorted(depths)[len(depths) // 2][1]]

    files = ((str(path), path) for place in places for path in files_below(place))
    return _read(files, origin, None, middle, of_stack=True)


def _read(
    files: Iterable[DicomFile],
    origin: str,
    rr_ms: float | None,
    choose: Callable[[list[DicomCine]], DicomCine],
    of_stack: bool = False,
) -> Cine:
    check_rr_ms(rr_ms)
    import_optional("pydicom", "imaging")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        images, notes = read_images(files, origin, skip_damaged=of_stack)
        cines, series_notes = find_cines(images, origin)
        notes += series_notes
        if of_stack and len(cines) > 1:
            notes.append(f"{origin}: a stack of {len(cines)} slices; the middle one was taken.")
        cine = _cine_of(choose(cines).images, notes, origin, rr_ms)
    # Without the values: they may identify the patient.
    odd = sorted({re.split(r"[:'.]", str(warning.message))[0] for warning in caught})
    if not odd:
        return cine
    note = f"{origin}: values that break DICOM's rules, read as they are ({'; '.join(odd[:3])})."
    return replace(cine, warnings=(*cine.warnings, note))


def _cine_of(images: list[DicomImage], notes: list[str], origin: str, rr_ms: float | None) -> Cine:
    check_num_frames(len(images), origin)
    for tag in ("PatientID", "PatientBirthDate"):
        if len({str(value) for image in images if (value := value_of(image.header, tag))}) > 1:
            raise InputError(f"{origin}: {tag} differs between the frames; give the frames of one subject.")
    _check_sizes(images, origin)
    images, times_ms, stated_ms, timing_notes = in_order_of_time(images, origin, rr_ms)
    times_ms, beat_ms, beat_notes = one_beat(times_ms, stated_ms, origin, is_given=rr_ms is not None)
    images = images[: len(times_ms)]
    first = images[0].header
    num_rows, num_columns = (int(number_of(first, side) or 0) for side in ("Rows", "Columns"))
    check_size(num_rows, num_columns, len(images), origin)
    pixels = np.stack([pixels_of(image) for image in images])
    orientation = numbers_of(first, "ImageOrientationPatient", 6)
    if orientation is None:
        notes.append(f"{origin}: the files state no ImageOrientationPatient.")
    spacing = numbers_of(first, "PixelSpacing", 2)
    if spacing is None:
        raise InputError(f"{images[0].name} has no PixelSpacing, so nothing can be measured in it; export it again.")
    return make_scan(
        pixels,
        spacing,
        times_ms,
        beat_ms,
        orientation=orientation,
        position=numbers_of(first, "ImagePositionPatient", 3),
        slice_thickness_mm=plausible_thickness_mm(number_of(first, "SliceThickness")),
        origin=origin,
        source="dicom",
        acquired=value_of(first, "SyntheticData") != "YES",
        warnings=(*notes, *timing_notes, *beat_notes),
    )


def _check_sizes(images: list[DicomImage], origin: str) -> None:
    """All frames must have the same pixels."""
    first, *others = images
    expected_size, expected_spacing = _size(first), numbers_of(first.header, "PixelSpacing", 2)
    for image in others:
        names = f"{Path(first.name).name} and {Path(image.name).name}"
        if _size(image) != expected_size:
            raise InputError(
                f"{origin}: the frames differ in size, {expected_size} and {_size(image)} ({names}); give the frames "
                "of one series."
            )
        spacing = numbers_of(image.header, "PixelSpacing", 2)
        if (spacing is None) != (expected_spacing is None) or (
            spacing is not None
            and expected_spacing is not None
            and np.abs(spacing - expected_spacing).max() > _SPACING_TOLERANCE_MM
        ):
            raise InputError(
                f"{origin}: the frames do not show one slice, PixelSpacing differs, {_listed(expected_spacing)} and "
                f"{_listed(spacing)} ({names}); give the frames of one slice."
            )


def _size(image: DicomImage) -> str:
    return " x ".join(brief(value_of(image.header, side)) for side in ("Rows", "Columns"))


def _listed(numbers: np.ndarray | None) -> str:
    return "none" if numbers is None else "[" + ", ".join(f"{number:g}" for number in numbers) + "]"
