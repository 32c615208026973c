"""The time of each DICOM image after the R wave: from TriggerTime, or else from the order that other tags state."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cpgg_hf.errors import InputError
from cpgg_hf.scans.checks import LONGER, MAX_RR_MS, MIN_FRAMES, MIN_RR_MS, SHORTER, covered_ms
from cpgg_hf.scans.dicom_images import DicomImage
from cpgg_hf.scans.dicom_values import number_of

_ORDERS = ("TemporalPositionIdentifier", "InstanceNumber")
_OTHER_UNITS = {"microseconds": 1e-3, "seconds": 1e3}
_LONGEST_STEP_MS = MAX_RR_MS / MIN_FRAMES


def in_order_of_time(
    images: Sequence[DicomImage], origin: str, rr_ms: float | None
) -> tuple[list[DicomImage], np.ndarray, float | None, tuple[str, ...]]:
    """Sort the images of one cine by time.

    Args:
        images: in any order.
        origin: their folder or archive, for messages.
        rr_ms: length of the heart beat, if the caller gives it.

    Returns:
        The images, their times in ms, the length of the beat that the caller or the header states (None: neither
        does), and warnings.

    Raises:
        InputError: several images of one time, or nothing states their order or the length of the beat.
    """
    header = images[0].header
    stated_ms = rr_ms or _stated_beat_ms(header)
    per_beat = number_of(header, "CardiacNumberOfImages")
    times = _numbers(images, "TriggerTime")
    num_different = len(set(times))
    if len(times) == len(images) == num_different:
        order, times_ms = np.argsort(times), np.sort(times)
        times_ms, notes = _in_milliseconds(times_ms, stated_ms, origin)
        if rr_ms is not None and np.median(np.diff(times_ms)) > _LONGEST_STEP_MS:
            times_ms = np.arange(len(images)) * rr_ms / len(images)
            notes = (f"{origin}: the trigger times are too far apart for a beat; only their order was used.",)
        if stated_ms is None and per_beat is not None and MIN_FRAMES <= per_beat <= len(images):
            stated_ms = float(per_beat * np.median(np.diff(times_ms)))
        return [images[index] for index in order], times_ms, stated_ms, notes
    if len(times) == len(images) and num_different > 1:
        raise InputError(
            f"{origin}: {len(images)} frames have only {num_different} different trigger times; the folder holds "
            "copies, or several images of each time: keep one of each."
        )
    for tag in _ORDERS:
        numbers = _numbers(images, tag)
        if len(set(numbers)) == len(images):
            break
    else:
        raise InputError(
            f"{origin}: {len(images) - len(times)} of {len(images)} frames have no TriggerTime and "
            f"{' and '.join(_ORDERS)} do not give their order either; export the series again with its cardiac tags."
        )
    if stated_ms is None:
        raise InputError(
            f"{origin}: the frames have no trigger times and no tag states the length of the heart beat; "
            "give the RR interval in ms (rr_ms, --rr-ms)."
        )
    if per_beat is not None and MIN_FRAMES <= per_beat < len(images) / LONGER:
        raise InputError(
            f"{origin}: {len(images)} frames without trigger times, of which {per_beat:.0f} make a beat "
            "(CardiacNumberOfImages); give the frames of one beat."
        )
    steps = np.sort(numbers) - min(numbers)
    steps /= np.median(np.diff(steps))  # other slices may be counted in between
    note = f"{origin}: no usable trigger times; frames sorted by {tag} and spread evenly over {stated_ms:.0f} ms."
    return [images[i] for i in np.argsort(numbers)], steps * stated_ms / (steps[-1] + 1), stated_ms, (note,)


def _numbers(images: Sequence[DicomImage], tag: str) -> list[float]:
    return [number for image in images if (number := number_of(image.header, tag)) is not None]


def _in_milliseconds(times: np.ndarray, stated_ms: float | None, origin: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The times, converted if they are those of a beat only in another unit than DICOM's."""
    covered = covered_ms(times)
    if MIN_RR_MS <= covered <= MAX_RR_MS:
        return times, ()
    for unit, factor in _OTHER_UNITS.items():
        beat_ms = covered * factor
        expected = (MIN_RR_MS, MAX_RR_MS) if stated_ms is None else (stated_ms / SHORTER, stated_ms * LONGER)
        if expected[0] <= beat_ms <= expected[1]:
            return times * factor, (f"{origin}: the trigger times are in {unit} instead of milliseconds; converted.",)
    return times, ()


def _stated_beat_ms(header: Any) -> float | None:
    interval, heart_rate = number_of(header, "NominalInterval"), number_of(header, "HeartRate")
    for stated in (interval, 60000.0 / heart_rate if heart_rate else None):
        if stated is not None and MIN_RR_MS <= stated <= MAX_RR_MS:
            return stated
    return None
