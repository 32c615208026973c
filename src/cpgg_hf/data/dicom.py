"""Read a folder of DICOM frames as one cine: one series, one slice, sorted by trigger time."""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cpgg_hf.data.cine_series import CineSeries, beat_length_ms, check_rr_ms
from cpgg_hf.data.errors import PreparationError, brief
from cpgg_hf.data.optional import import_optional

_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
_POSITION_TOLERANCE_MM = 0.5
_DIRECTION_TOLERANCE = 0.01
_SPACING_TOLERANCE_MM = 1e-3


def read_dicom_folder(folder: str | os.PathLike[str], rr_ms: float | None = None) -> CineSeries:
    """Read the one cine series that a folder (sub-folders included) holds.

    Frames are sorted by TriggerTime; where that is missing they are sorted by InstanceNumber and taken as evenly
    spread over the beat, with a warning. Identifiers that break DICOM's rules are no reason to refuse a file.

    Args:
        folder: a folder of single-frame DICOM files; other files are passed over with a warning.
        rr_ms: length of the heart beat, for files that do not state it.

    Raises:
        PreparationError: no images, several series or slices, frames that differ in size or spacing, damaged files,
            no usable times.
        ImportError: pydicom is not installed.
    """
    check_rr_ms(rr_ms)
    folder = Path(folder)
    if not folder.is_dir():
        raise PreparationError(f"{folder} is no folder; give the folder that holds the DICOM files of one series.")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        series = _read_series(folder, rr_ms)
    # Without the values: they may identify the patient.
    odd = sorted({re.split(r"[:'.]", str(warning.message))[0] for warning in caught})
    if not odd:
        return series
    note = f"{folder}: values that break DICOM's rules, read as they are ({'; '.join(odd[:3])})."
    return replace(series, warnings=(*series.warnings, note))


def _read_series(folder: Path, rr_ms: float | None) -> CineSeries:
    images, notes = _read_images(folder)
    _check_one_series(images, folder)
    images, times_ms, timing_notes = _in_order_of_time(images, folder, rr_ms)
    _check_one_plane(images, folder)
    frames = np.stack([_pixels(dataset, path) for path, dataset in images])
    first = images[0][1]
    stated = rr_ms if rr_ms is not None else _stated_beat_ms(first)
    beat_ms, beat_notes = beat_length_ms(times_ms, stated, str(folder))
    orientation = _numbers(first, "ImageOrientationPatient", 6)
    if orientation is None:
        notes.append(f"{folder}: the files state no ImageOrientationPatient, so the view cannot be judged.")
    spacing = _numbers(first, "PixelSpacing", 2)
    if spacing is None:
        raise PreparationError(
            f"{images[0][0]} states no PixelSpacing, so nothing can be measured in it; export again."
        )
    thickness = _numbers(first, "SliceThickness", 1)
    return CineSeries(
        frames=frames,
        pixel_spacing_mm=spacing,
        times_ms=times_ms,
        rr_ms=beat_ms,
        orientation=orientation,
        position=_numbers(first, "ImagePositionPatient", 3),
        slice_thickness_mm=None if thickness is None else float(thickness[0]),
        origin=str(folder),
        source="dicom",
        warnings=(*notes, *timing_notes, *beat_notes),
    )


def _read_images(folder: Path) -> tuple[list[tuple[Path, Any]], list[str]]:
    """All single-frame image files below a folder, and warnings."""
    pydicom = import_optional("pydicom", "imaging")
    images, notes, without_pixels = [], [], []
    passed_over = 0
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    for path in paths:
        try:
            dataset = pydicom.dcmread(path)
        except pydicom.errors.InvalidDicomError:
            if path.suffix.lower() in _DICOM_SUFFIXES:
                raise PreparationError(
                    f"{path} is no DICOM file, or cut off at its start; copy it again, or remove it."
                ) from None
            passed_over += 1
            continue
        except Exception as error:  # pydicom raises many kinds on damaged files
            raise PreparationError(f"{path} is damaged ({brief(error)}); copy it again, or remove it.") from None
        if "PixelData" not in dataset:
            # pydicom reads a file that ends too early up to its end without complaint.
            kind = getattr(_value(dataset.file_meta, "MediaStorageSOPClassUID"), "name", "")
            if "Rows" in dataset or "Image" in kind:
                raise PreparationError(f"{path} is cut off: it ends before its pixels; copy it again.")
            without_pixels.append(path)
            continue
        num_frames = _numbers(dataset, "NumberOfFrames", 1)
        if num_frames is not None and num_frames[0] > 1:
            raise PreparationError(
                f"{path} holds {num_frames[0]:.0f} frames in one file (enhanced or multi-frame DICOM); "
                "convert it to single-frame files, or to NIfTI, first."
            )
        images.append((path, dataset))
    if not images:
        found = "it is empty"
        if without_pixels:
            found = f"DICOM files without an image: {len(without_pixels)}"
        elif paths:
            found = f"other files: {len(paths)}"
        raise PreparationError(
            f"{folder} holds no DICOM images ({found}); give the folder that holds the frames of one cine."
        )
    if without_pixels:
        notes.append(f"{folder}: {len(without_pixels)} DICOM files without an image passed over.")
    if passed_over:
        notes.append(f"{folder}: {passed_over} files that are no DICOM passed over.")
    return images, notes


def _check_one_series(images: list[tuple[Path, Any]], folder: Path) -> None:
    series = defaultdict(list)
    for path, dataset in images:
        series[str(_value(dataset, "SeriesInstanceUID"))].append((path, dataset))
    if len(series) == 1:
        return
    descriptions = [
        f"{len(members)} frames of {_value(members[0][1], 'SeriesDescription') or 'a series without description'!r} "
        f"(e.g. {members[0][0].relative_to(folder)})"
        for members in series.values()
    ]
    listed = ", ".join(descriptions[:4]) + (", ..." if len(descriptions) > 4 else "")
    raise PreparationError(
        f"{folder} holds {len(series)} series, expected one: {listed}; "
        "put the frames of one cine into their own folder."
    )


def _check_one_plane(images: list[tuple[Path, Any]], folder: Path) -> None:
    """All frames must show the same plane on the same pixels."""
    first_path, first = images[0]
    for path, dataset in images:
        size, expected_size = (f"{_value(image, 'Rows')} x {_value(image, 'Columns')}" for image in (dataset, first))
        if size != expected_size:
            raise PreparationError(
                f"{folder}: the frames differ in size, {first_path.name} is {expected_size} and {path.name} is "
                f"{size}; give the frames of one series."
            )
    for name, count, tolerance in (
        ("PixelSpacing", 2, _SPACING_TOLERANCE_MM),
        ("ImageOrientationPatient", 6, _DIRECTION_TOLERANCE),
        ("ImagePositionPatient", 3, _POSITION_TOLERANCE_MM),
    ):
        expected = _numbers(first, name, count)
        for path, dataset in images:
            found = _numbers(dataset, name, count)
            if (found is None) != (expected is None) or (
                found is not None and expected is not None and np.abs(found - expected).max() > tolerance
            ):
                raise PreparationError(
                    f"{folder}: the frames do not show one slice, {name} differs between {first_path.name} and "
                    f"{path.name} ({_listed(expected)} and {_listed(found)}); give the frames of one slice."
                )


def _in_order_of_time(
    images: list[tuple[Path, Any]], folder: Path, rr_ms: float | None
) -> tuple[list[tuple[Path, Any]], np.ndarray, tuple[str, ...]]:
    """The images sorted by time, their times, and warnings."""
    stated = [_numbers(dataset, "TriggerTime", 1) for _, dataset in images]
    times = [float(value[0]) for value in stated if value is not None]
    if len(times) == len(images) and len(set(times)) == len(images):
        order = np.argsort(times)
        return [images[index] for index in order], np.sort(times), ()
    if len(times) == len(images) and len(set(times)) > 1:
        raise PreparationError(
            f"{folder}: {len(images)} frames have only {len(set(times))} different trigger times; the folder holds "
            "copies, or several images of each time: keep one of each."
        )
    numbers = [_numbers(dataset, "InstanceNumber", 1) for _, dataset in images]
    if any(number is None for number in numbers) or len({float(n[0]) for n in numbers if n is not None}) < len(images):
        raise PreparationError(
            f"{folder}: {len(images) - len(times)} of {len(images)} frames have no TriggerTime and the instance "
            "numbers do not tell their order either; export the series again with its cardiac tags."
        )
    beat_ms = rr_ms if rr_ms is not None else _stated_beat_ms(images[0][1])
    if beat_ms is None:
        raise PreparationError(
            f"{folder}: the frames have no trigger times and no tag states the length of the heart beat; "
            "give the RR interval in ms (rr_ms, --rr-ms)."
        )
    order = np.argsort([float(number[0]) for number in numbers if number is not None])
    times_ms = np.arange(len(images)) * beat_ms / len(images)
    note = (
        f"{folder}: no usable trigger times; frames sorted by InstanceNumber and spread evenly over {beat_ms:.0f} ms."
    )
    return [images[index] for index in order], times_ms, (note,)


def _stated_beat_ms(dataset: Any) -> float | None:
    interval = _numbers(dataset, "NominalInterval", 1)
    if interval is not None and interval[0] > 0:
        return float(interval[0])
    heart_rate = _numbers(dataset, "HeartRate", 1)
    if heart_rate is not None and heart_rate[0] > 0:
        return 60000.0 / float(heart_rate[0])
    return None


def _pixels(dataset: Any, path: Path) -> np.ndarray:
    """One frame (H, W), float32, with the file's rescaling applied."""
    colours = _value(dataset, "PhotometricInterpretation")
    if colours != "MONOCHROME2" or _value(dataset, "SamplesPerPixel") not in (1, None):
        raise PreparationError(
            f"{path} is no plain grey image ({colours or 'kind not stated'}), "
            "perhaps a screenshot; give the original frames."
        )
    uids = import_optional("pydicom.uid", "imaging")
    syntax = _value(dataset.file_meta, "TransferSyntaxUID")
    try:
        pixels = dataset.pixel_array
    except Exception as error:  # decoders and header checks raise many kinds
        if syntax in uids.AllTransferSyntaxes and syntax.is_compressed:
            raise PreparationError(
                f"{path} is compressed ({syntax.name}) and cannot be decoded here ({brief(error)}); install "
                "`pylibjpeg[all]`, or decompress the files first."
            ) from None
        raise PreparationError(
            f"{path} is cut off or damaged: its pixels cannot be read ({brief(error)}); copy it again."
        ) from None
    slope = _numbers(dataset, "RescaleSlope", 1)
    intercept = _numbers(dataset, "RescaleIntercept", 1)
    frame = pixels.astype(np.float32)
    if slope is not None and slope[0] != 0:
        frame *= np.float32(slope[0])
    if intercept is not None:
        frame += np.float32(intercept[0])
    return frame


def _value(dataset: Any, name: str) -> Any:
    """The value of a tag, or None where it is absent or damaged: pydicom converts values when they are asked for."""
    try:
        return dataset.get(name)
    except Exception:  # damaged values raise many kinds
        return None


def _numbers(dataset: Any, name: str, count: int) -> np.ndarray | None:
    """The numbers of a tag as (count,) float64, or None where they are absent or no numbers."""
    try:
        numbers = np.atleast_1d(np.asarray(_value(dataset, name), dtype=np.float64))
    except (TypeError, ValueError, ArithmeticError):
        return None
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None


def _listed(numbers: np.ndarray | None) -> str:
    return "none" if numbers is None else "[" + ", ".join(f"{number:g}" for number in numbers) + "]"
