"""Tell the cines in DICOM images apart: by series, slice, acquisition, echo and kind of image; and choose one."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cpgg_hf.errors import InputError, brief
from cpgg_hf.scans.checks import MIN_FRAMES, frames
from cpgg_hf.scans.dicom_images import DicomImage
from cpgg_hf.scans.dicom_values import number_of, numbers_of, texts_of, value_of

_POSITION_TOLERANCE_MM = 0.5
_DIRECTION_TOLERANCE = 0.01
_NUM_LISTED = 8


@dataclass(frozen=True)
class DicomCine:
    """The images of one cine.

    Attributes:
        label: what `series` and `--series` call it: the SeriesNumber, with "-1", "-2", ... if the series holds several
            cines; 1, 2, ... instead of series numbers that are missing or equal.
        text: number of frames, description, and how it differs from the other cines of its series.
        images: in any order.
    """

    label: str
    text: str
    images: list[DicomImage]


def find_cines(images: Sequence[DicomImage], origin: str) -> tuple[list[DicomCine], tuple[str, ...]]:
    """All cines among images, in the order of their labels, and a note if the series had to be guessed."""
    notes: tuple[str, ...] = ()
    series = _by(images, lambda image: str(value_of(image.header, "SeriesInstanceUID")))
    if 1 < len(series) == len(images):
        series = _by(images, lambda image: str(value_of(image.header, "SeriesNumber")))
        notes = (f"{origin}: SeriesInstanceUID differs in every file, so series were told apart by SeriesNumber.",)
    numbers = [number_of(members[0].header, "SeriesNumber") for members in series.values()]
    numbered = None not in numbers and len(set(numbers)) == len(numbers)
    order = np.argsort(np.array(numbers, dtype=np.float64), kind="stable") if numbered else range(len(series))
    cines = []
    for place, index in enumerate(order, start=1):
        members = list(series.values())[index]
        label = f"{numbers[index]:.0f}" if numbered else str(place)
        parts = _parts(members)
        for part, (text, own) in enumerate(parts, start=1):
            described = f"{frames(len(own))} of {_description(own[0])}{text}"
            cines.append(DicomCine(label if len(parts) == 1 else f"{label}-{part}", described, own))
    return cines, notes


def choose_cine(cines: Sequence[DicomCine], series: str | None, origin: str) -> DicomCine:
    """The only cine, or the one with a label; a series' label stands for its only cine.

    Raises:
        InputError: several cines or none.
    """
    matching = [one for one in cines if series is None or one.label == series or one.label.startswith(f"{series}-")]
    if len(matching) == 1:
        return matching[0]
    found = f"{len(cines)} {'cines' if any('-' in one.label for one in cines) else 'series'}"
    asked = "expected one" if series is None else f"asked for {brief(series)!r}"
    listed = "; ".join(f"{one.label}: {one.text}" for one in (matching or cines)[:_NUM_LISTED])
    more = "; ..." if len(matching or cines) > _NUM_LISTED else ""
    raise InputError(
        f"{origin} holds {found}, {asked} ({listed}{more}); choose one by the name before its colon (series, "
        "--series), or put the frames of one cine into their own folder."
    )


def depth_of(cine: DicomCine) -> float | None:
    """The position of a cine's plane along its normal in mm; None if it is not stated."""
    header = cine.images[0].header
    position = numbers_of(header, "ImagePositionPatient", 3)
    orientation = numbers_of(header, "ImageOrientationPatient", 6)
    if position is None or orientation is None:
        return None
    return float(position @ np.cross(orientation[:3], orientation[3:]))


def _by(images: Sequence[DicomImage], key: Callable[[DicomImage], Any]) -> dict[Any, list[DicomImage]]:
    groups = defaultdict(list)
    for image in images:
        groups[key(image)].append(image)
    return groups


def _parts(images: list[DicomImage]) -> list[tuple[str, list[DicomImage]]]:
    """The cines of one series, with how they differ."""
    parts = [("", images)]
    for split in (_slices, _acquisitions, _echoes, _kinds, _passes):
        parts = [(f"{text}{added}", own) for text, members in parts for added, own in split(members)]
    return parts


def _slices(images: list[DicomImage]) -> list[tuple[str, list[DicomImage]]]:
    slices: list[tuple[np.ndarray | None, np.ndarray | None, list[DicomImage]]] = []
    for image in images:
        orientation = numbers_of(image.header, "ImageOrientationPatient", 6)
        position = numbers_of(image.header, "ImagePositionPatient", 3)
        for known_orientation, known_position, members in slices:
            if _alike(orientation, known_orientation, _DIRECTION_TOLERANCE) and _alike(
                position, known_position, _POSITION_TOLERANCE_MM
            ):
                members.append(image)
                break
        else:
            slices.append((orientation, position, [image]))
    if len(slices) == 1:
        return [("", images)]
    return [(f", slice at {_listed(position)} mm", members) for _, position, members in slices]


def _alike(one: np.ndarray | None, other: np.ndarray | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.abs(one - other).max() <= tolerance)


def _listed(numbers: np.ndarray | None) -> str:
    return "an unknown place" if numbers is None else "(" + ", ".join(f"{number:.1f}" for number in numbers) + ")"


def _acquisitions(images: list[DicomImage]) -> list[tuple[str, list[DicomImage]]]:
    return _by_value(images, "acquisition", lambda image: number_of(image.header, "AcquisitionNumber"))


def _echoes(images: list[DicomImage]) -> list[tuple[str, list[DicomImage]]]:
    return _by_value(images, "echo", lambda image: number_of(image.header, "EchoNumbers"))


def _kinds(images: list[DicomImage]) -> list[tuple[str, list[DicomImage]]]:
    return _by_value(images, "ImageType", lambda image: "/".join(texts_of(image.header, "ImageType")) or None)


def _by_value(
    images: list[DicomImage], word: str, value: Callable[[DicomImage], Any]
) -> list[tuple[str, list[DicomImage]]]:
    """Images by a value that one cine has in common; some scanners count acquisitions from frame to frame."""
    groups = _by(images, value)
    if len(groups) == 1 or max(map(len, groups.values())) < MIN_FRAMES:
        return [("", images)]
    named = sorted(groups.items(), key=lambda item: (isinstance(item[0], str), item[0] is not None, item[0] or 0))
    shown = {key: f"{key:g}" if isinstance(key, float) else brief(key or "not stated") for key, _ in named}
    return [(f", {word} {shown[key]}", members) for key, members in named]


def _passes(images: list[DicomImage]) -> list[tuple[str, list[DicomImage]]]:
    """Runs of instance numbers over each of which the trigger times rise, if these overlap in time."""
    stated = [(number_of(one.header, "InstanceNumber"), number_of(one.header, "TriggerTime")) for one in images]
    if any(None in pair for pair in stated) or len({number for number, _ in stated}) < len(images):
        return [("", images)]
    order = sorted(range(len(images)), key=lambda index: stated[index][0] or 0.0)
    times = np.array([stated[index][1] for index in order], dtype=np.float64)
    starts = [0, *(np.flatnonzero(np.diff(times) <= 0) + 1), len(images)]
    runs = [order[start:end] for start, end in pairwise(starts)]
    longest = max(times[start] for start in starts[:-1])
    overlap = longest < min(times[end - 1] for end in starts[1:])
    if len(runs) == 1 or min(map(len, runs)) < MIN_FRAMES or not overlap:
        return [("", images)]
    return [
        (f", instances {stated[run[0]][0]:.0f} to {stated[run[-1]][0]:.0f}", [images[index] for index in run])
        for run in runs
    ]


def _description(image: DicomImage) -> str:
    described = value_of(image.header, "SeriesDescription")
    return repr(brief(described)) if described else f"a series without description (e.g. {Path(image.name).name})"
