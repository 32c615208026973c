"""Read DICOM files as one cine: one series, one slice, sorted by trigger time."""

import io
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.errors import InputError, brief
from cpgg_hf.optional import import_optional
from cpgg_hf.scans.checks import beat_length_ms, check_rr_ms, check_size, make_scan, plausible_thickness_mm
from cpgg_hf.scans.dicom_values import number_of, numbers_of, pixels_of, value_of

_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
_POSITION_TOLERANCE_MM = 0.5
_DIRECTION_TOLERANCE = 0.01
_SPACING_TOLERANCE_MM = 1e-3
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_META_BYTES = 1024  # the file meta information, which names the transfer syntax, ends well before

# A file's name in messages, and its path or a seekable stream.
DicomFile = tuple[str, Path | IO[bytes]]


def read_dicom_folder(folder: str | os.PathLike[str], rr_ms: float | None = None) -> Cine:
    """Read the only cine series of a folder, sub-folders included; see `read_dicom_files`.

    Args:
        folder: a folder of single-frame DICOM files; other files are skipped with a warning.
        rr_ms: length of the heart beat, for files that do not state it.

    Raises:
        InputError: not a folder, or files that `read_dicom_files` refuses.
        ImportError: pydicom is not installed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder that holds the DICOM files of one series.")
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return read_dicom_files(((str(path), path) for path in paths), str(folder), rr_ms)


def read_dicom_files(files: Iterable[DicomFile], origin: str, rr_ms: float | None = None) -> Cine:
    """Read one cine series from its single-frame DICOM files.

    Frames are sorted by TriggerTime; if that is missing, by InstanceNumber, and taken as evenly spread over the beat,
    with a warning. Values that break DICOM's rules are read as they are, with a warning.

    Args:
        files: each file's name for messages, and its path or stream.
        origin: their folder or archive, for messages.
        rr_ms: length of the heart beat, for files that do not state it.

    Raises:
        InputError: no images, several series or slices, frames that differ in size or spacing, damaged files,
            no usable times.
        ImportError: pydicom is not installed.
    """
    check_rr_ms(rr_ms)
    import_optional("pydicom", "imaging")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cine = _read_series(files, origin, rr_ms)
    # Without the values: they may identify the patient.
    odd = sorted({re.split(r"[:'.]", str(warning.message))[0] for warning in caught})
    if not odd:
        return cine
    note = f"{origin}: values that break DICOM's rules, read as they are ({'; '.join(odd[:3])})."
    return replace(cine, warnings=(*cine.warnings, note))


def read_dataset(name: str, source: Path | IO[bytes], **options: Any) -> Any | None:
    """One DICOM file as a pydicom data set; None if it is not DICOM.

    Args:
        name: the file's name in messages.
        source: its path or stream.
        options: of `pydicom.dcmread`.

    Raises:
        InputError: the file is damaged.
    """
    pydicom = import_optional("pydicom", "imaging")
    try:
        with _BoundedReader(source) if isinstance(source, Path) else nullcontext(source) as stream:
            deflated = _DEFLATED in stream.read(_META_BYTES)
            stream.seek(0)
            dataset = None if deflated else pydicom.dcmread(stream, **options)
    except pydicom.errors.InvalidDicomError:
        if name.lower().endswith(_DICOM_SUFFIXES):
            raise InputError(
                f"{name} is not a DICOM file, or its start is missing; copy it again, or remove it."
            ) from None
        return None
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise InputError(f"{name} is damaged ({brief(error)}); copy it again, or remove it.") from None
    if deflated:
        raise InputError(f"{name} is deflated, so its uncompressed size is unknown; decompress it first.")
    return dataset


class _BoundedReader(io.BufferedReader):
    """A file that is never read beyond its end: a damaged length must not exhaust the memory."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def _read_series(files: Iterable[DicomFile], origin: str, rr_ms: float | None) -> Cine:
    images, notes = _read_images(files, origin)
    _check_one_series(images, origin)
    images, times_ms, timing_notes = _in_order_of_time(images, origin, rr_ms)
    _check_one_plane(images, origin)
    first = images[0][1]
    num_rows, num_columns = (int(number_of(first, side) or 0) for side in ("Rows", "Columns"))
    check_size(num_rows, num_columns, len(images), origin)
    pixels = np.stack([pixels_of(dataset, name) for name, dataset in images])
    stated = rr_ms if rr_ms is not None else _stated_beat_ms(first)
    beat_ms, beat_notes = beat_length_ms(times_ms, stated, origin)
    orientation = numbers_of(first, "ImageOrientationPatient", 6)
    if orientation is None:
        notes.append(f"{origin}: the files state no ImageOrientationPatient.")
    spacing = numbers_of(first, "PixelSpacing", 2)
    if spacing is None:
        raise InputError(f"{images[0][0]} has no PixelSpacing, so nothing can be measured in it; export it again.")
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


def _read_images(files: Iterable[DicomFile], origin: str) -> tuple[list[tuple[str, Any]], list[str]]:
    """The single-frame images with their names, and warnings."""
    images, notes = [], []
    num_without_pixels = num_skipped = 0
    for name, source in files:
        dataset = read_dataset(name, source)
        if dataset is None:
            num_skipped += 1
            continue
        if "PixelData" not in dataset:
            # pydicom reads a file that ends too early up to its end without complaint.
            kind = getattr(value_of(dataset.file_meta, "MediaStorageSOPClassUID"), "name", "")
            if "Rows" in dataset or "Image" in kind:
                raise InputError(f"{name} is cut off: it ends before its pixels; copy it again.")
            num_without_pixels += 1
            continue
        num_frames = number_of(dataset, "NumberOfFrames")
        if num_frames is not None and num_frames > 1:
            raise InputError(
                f"{name} holds {num_frames:.0f} frames in one file (enhanced or multi-frame DICOM); "
                "convert it to single-frame files, or to NIfTI, first."
            )
        images.append((name, dataset))
    if not images:
        found = "it is empty"
        if num_without_pixels:
            found = f"DICOM files without an image: {num_without_pixels}"
        elif num_skipped:
            found = f"other files: {num_skipped}"
        raise InputError(
            f"{origin} holds no DICOM images ({found}); give the folder that holds the frames of one cine."
        )
    if num_without_pixels:
        notes.append(f"{origin}: {num_without_pixels} DICOM files without an image were skipped.")
    if num_skipped:
        notes.append(f"{origin}: {num_skipped} files that are not DICOM were skipped.")
    return images, notes


def _check_one_series(images: list[tuple[str, Any]], origin: str) -> None:
    series = defaultdict(list)
    for name, dataset in images:
        series[str(value_of(dataset, "SeriesInstanceUID"))].append((name, dataset))
    if len(series) == 1:
        return
    descriptions = [
        f"{len(members)} frames of {value_of(members[0][1], 'SeriesDescription') or 'a series without description'!r} "
        f"(e.g. {os.path.relpath(members[0][0], origin)})"
        for members in series.values()
    ]
    listed = ", ".join(descriptions[:4]) + (", ..." if len(descriptions) > 4 else "")
    raise InputError(
        f"{origin} holds {len(series)} series, expected one: {listed}; "
        "put the frames of one cine into their own folder."
    )


def _check_one_plane(images: list[tuple[str, Any]], origin: str) -> None:
    """All frames must show the same plane on the same pixels."""
    (first_name, first), *others = images
    expected_size = _size(first)
    for name, dataset in others:
        if _size(dataset) != expected_size:
            raise InputError(
                f"{origin}: the frames differ in size, {expected_size} ({Path(first_name).name}) and {_size(dataset)} "
                f"({Path(name).name}); give the frames of one series."
            )
    for tag, count, tolerance in (
        ("PixelSpacing", 2, _SPACING_TOLERANCE_MM),
        ("ImageOrientationPatient", 6, _DIRECTION_TOLERANCE),
        ("ImagePositionPatient", 3, _POSITION_TOLERANCE_MM),
    ):
        expected = numbers_of(first, tag, count)
        for name, dataset in others:
            found = numbers_of(dataset, tag, count)
            if (found is None) != (expected is None) or (
                found is not None and expected is not None and np.abs(found - expected).max() > tolerance
            ):
                raise InputError(
                    f"{origin}: the frames do not show one slice, {tag} differs between {Path(first_name).name} and "
                    f"{Path(name).name} ({_listed(expected)} and {_listed(found)}); give the frames of one slice."
                )


def _size(dataset: Any) -> str:
    return " x ".join(brief(value_of(dataset, side)) for side in ("Rows", "Columns"))


def _in_order_of_time(
    images: list[tuple[str, Any]], origin: str, rr_ms: float | None
) -> tuple[list[tuple[str, Any]], np.ndarray, tuple[str, ...]]:
    """The images sorted by time, their times, and warnings."""
    times = [time for _, dataset in images if (time := number_of(dataset, "TriggerTime")) is not None]
    if len(times) == len(images) and len(set(times)) == len(images):
        order = np.argsort(times)
        return [images[index] for index in order], np.sort(times), ()
    if len(times) == len(images) and len(set(times)) > 1:
        raise InputError(
            f"{origin}: {len(images)} frames have only {len(set(times))} different trigger times; the folder holds "
            "copies, or several images of each time: keep one of each."
        )
    numbers = [number for _, dataset in images if (number := number_of(dataset, "InstanceNumber")) is not None]
    if len(set(numbers)) < len(images):
        raise InputError(
            f"{origin}: {len(images) - len(times)} of {len(images)} frames have no TriggerTime and the instance "
            "numbers do not give their order either; export the series again with its cardiac tags."
        )
    beat_ms = rr_ms if rr_ms is not None else _stated_beat_ms(images[0][1])
    if beat_ms is None:
        raise InputError(
            f"{origin}: the frames have no trigger times and no tag states the length of the heart beat; "
            "give the RR interval in ms (rr_ms, --rr-ms)."
        )
    order = np.argsort(numbers)
    times_ms = np.arange(len(images)) * beat_ms / len(images)
    note = (
        f"{origin}: no usable trigger times; frames sorted by InstanceNumber and spread evenly over {beat_ms:.0f} ms."
    )
    return [images[index] for index in order], times_ms, (note,)


def _stated_beat_ms(dataset: Any) -> float | None:
    interval, heart_rate = number_of(dataset, "NominalInterval"), number_of(dataset, "HeartRate")
    if interval is not None and interval > 0:
        return interval
    return 60000.0 / heart_rate if heart_rate is not None and heart_rate > 0 else None


def _listed(numbers: np.ndarray | None) -> str:
    return "none" if numbers is None else "[" + ", ".join(f"{number:g}" for number in numbers) + "]"
