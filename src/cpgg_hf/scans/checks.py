"""The checks that every scan must pass, whatever file it comes from, and the `Cine` of a scan that passed."""

from typing import Any

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.errors import InputError
from cpgg_hf.grid import GRID_SIZE, NUM_FRAMES, SPACING_MM
from cpgg_hf.plane import plane_normal

MIN_FRAMES, MAX_FRAMES = 8, 500
MAX_PIXELS = 2**26  # of all frames: 256 of 512 x 512; a damaged header must not exhaust the memory
# 24 to 250 beats per minute: outside, a time has the wrong unit, or it is not the time of a heart beat.
MIN_RR_MS, MAX_RR_MS = 240.0, 2500.0
# Frames that cover more than LONGER times the stated beat are several beats; SHORTER: fewer than a beat.
LONGER, SHORTER = 1.3, 1.6
_LONG_BEAT_MS = 1500.0  # 40 beats per minute
_GAP_STEPS = 1.6  # a step longer than this many usual ones is a gap
_LONGEST_GAP = 0.11  # missing part of the beat that is interpolated
_MIN_FRAME_TIME_MS = 0.5
_MAX_INTENSITY = 1e12
_MAX_POSITION_MM = 1e4
_THICKNESS_MM = (0.1, 100.0)


def make_scan(
    pixels: np.ndarray, spacing_mm: np.ndarray, times_ms: np.ndarray, rr_ms: float, *, origin: str, **fields: Any
) -> Cine:
    """The `Cine` of a scan in scanner units, after all its values were checked.

    Args:
        pixels: (T, H, W) float32 in order of time.
        spacing_mm: (2,) distance between rows, distance between columns.
        times_ms: (T,) time of each frame after the R wave, rising.
        rr_ms: length of the heart beat.
        origin: file or folder, for messages.
        fields: other fields of `Cine`; `orientation` and `position` are checked too.

    Raises:
        InputError: too few or too many frames, an empty or non-finite frame, an implausible spacing, plane, frame time
            or heart beat.
    """
    _check_pixels(pixels, origin)
    spacing_mm = np.asarray(spacing_mm)
    if not ((spacing_mm > 0.1) & (spacing_mm < 10)).all():
        raise InputError(
            f"{origin}: the pixel spacing is {spacing_mm.tolist()} mm, expected two numbers between 0.1 and 10; "
            "check the header."
        )
    _check_plane(fields.get("orientation"), fields.get("position"), origin)
    if not (np.isfinite(times_ms).all() and (np.diff(times_ms) >= _MIN_FRAME_TIME_MS).all()):
        raise InputError(
            f"{origin}: the frame times do not rise by at least {_MIN_FRAME_TIME_MS} ms per frame; check the "
            "trigger times."
        )
    if not MIN_RR_MS <= rr_ms <= MAX_RR_MS:
        raise InputError(
            f"{origin}: the heart beat would last {rr_ms:.0f} ms, expected {MIN_RR_MS:.0f} to {MAX_RR_MS:.0f}; "
            + ("check the frame times." if rr_ms < MIN_RR_MS else "give the RR interval in ms (rr_ms, --rr-ms).")
        )
    return Cine(
        pixels=pixels,
        spacing_mm=(spacing_mm[0], spacing_mm[1]),
        frame_time_ms=float(np.median(np.diff(times_ms))),
        times_ms=times_ms,
        rr_ms=rr_ms,
        scanner_units=True,
        origin=origin,
        **fields,
    )


def lies_on_grid(pixels: np.ndarray, spacing_mm: Any) -> bool:
    """Whether pixels (T, H, W) have the package's grid and range already, as the package's own NIfTI files do."""
    return (
        pixels.shape == (NUM_FRAMES, GRID_SIZE, GRID_SIZE)
        and np.allclose(spacing_mm, SPACING_MM, atol=1e-3)
        and bool(pixels.min() >= 0 and pixels.max() <= 1)
    )


def check_size(num_rows: int, num_columns: int, num_frames: int, origin: str) -> None:
    """Refuse a header that states more frames or pixels than a cine of one beat has."""
    if num_frames > MAX_FRAMES:
        raise InputError(
            f"{origin} holds {num_frames} frames, a cine of one beat has at most {MAX_FRAMES}; give one slice of one "
            "beat."
        )
    if num_rows * num_columns * num_frames > MAX_PIXELS:
        raise InputError(
            f"{origin}: {num_frames} frames of {num_rows} x {num_columns} pixels are more than a cine has "
            f"({MAX_PIXELS:,} pixels); the header is damaged, or this is not a cine."
        )


def frames(number: int) -> str:
    """A number of frames in words, for messages."""
    return "1 frame" if number == 1 else f"{number} frames"


def check_num_frames(num_frames: int, origin: str) -> None:
    """Refuse stills and short extracts of a beat: the segmenters find the heart by its motion."""
    if num_frames < MIN_FRAMES:
        still = " (stills do not show the motion by which the heart is found)" if num_frames <= 2 else ""
        raise InputError(
            f"{origin} holds {frames(num_frames)}{still}, a cine needs at least {MIN_FRAMES}; give the complete "
            "series, as a DICOM folder, or a .nii or .nii.gz file."
        )


def check_rr_ms(rr_ms: float | None) -> None:
    """Refuse an RR interval from the caller that no heart has."""
    if rr_ms is not None and not MIN_RR_MS <= rr_ms <= MAX_RR_MS:
        raise InputError(
            f"the RR interval is given as {rr_ms:g} ms (rr_ms, --rr-ms), expected {MIN_RR_MS:.0f} to {MAX_RR_MS:.0f}; "
            "give the length of one heart beat in milliseconds."
        )


def plausible_thickness_mm(value: float | None) -> float | None:
    """A header's slice thickness, or None if it is implausible: many files write 0 for "unknown"."""
    return value if value is not None and _THICKNESS_MM[0] <= value <= _THICKNESS_MM[1] else None


def covered_ms(times_ms: np.ndarray) -> float:
    """The time that frames cover, the last one for as long as the others."""
    return float(times_ms[-1] - times_ms[0] + np.median(np.diff(times_ms)))


def one_beat(
    times_ms: np.ndarray, stated_ms: float | None, origin: str, *, is_given: bool = False
) -> tuple[np.ndarray, float, tuple[str, ...]]:
    """The frames of one beat and its length.

    Retrospectively gated frames fill the beat, so its length is the time that they cover; the stated length (often
    rounded, or that of the beat before) is used only if it is clearly longer: prospective gating misses the end of the
    beat.

    Args:
        times_ms: (T,) time of each frame after the R wave, rising.
        stated_ms: length of the beat as the header or the caller states it; None = unknown.
        origin: file or folder, for messages.
        is_given: whether the caller states it: then frames after the beat are left out instead of refused.

    Returns:
        The times of the beat's frames, its length in ms, and warnings about frames that are missing or too many.

    Raises:
        InputError: too few frames, frames far beyond the beat, or missing for more than a tenth of it.
    """
    check_num_frames(len(times_ms), origin)
    notes: tuple[str, ...] = ()
    covered = covered_ms(times_ms)
    if stated_ms is None and covered > _LONG_BEAT_MS:
        notes = (
            f"{origin}: the frames cover {covered:.0f} ms, taken as one beat; if these are several beats, give the RR "
            "interval in ms (rr_ms, --rr-ms).",
        )
    if stated_ms is not None and covered > LONGER * stated_ms:
        if not is_given:
            raise InputError(
                f"{origin}: {len(times_ms)} frames cover {covered:.0f} ms, {covered / stated_ms:.1f} times the beat "
                f"of {stated_ms:.0f} ms that the header states; give the frames of one beat, or the RR interval in ms "
                "to take the first beat (rr_ms, --rr-ms)."
            )
        kept = times_ms[times_ms - times_ms[0] < stated_ms - np.median(np.diff(times_ms)) / 2]
        notes = (f"{origin}: {len(times_ms) - len(kept)} frames after the first {stated_ms:.0f} ms were left out.",)
        check_num_frames(len(kept), f"{origin}: the first beat")
        times_ms, covered = kept, covered_ms(kept)
    beat_ms = stated_ms if stated_ms is not None and stated_ms >= 1.1 * covered else covered
    if stated_ms is not None and beat_ms > SHORTER * covered:
        raise InputError(
            f"{origin}: {len(times_ms)} frames cover {covered:.0f} ms of a beat of {beat_ms:.0f} ms "
            f"({times_ms[0]:.0f} to {times_ms[0] + covered:.0f} ms); frames are missing, give the complete series."
        )
    return times_ms, beat_ms, (*notes, *_gaps(times_ms, beat_ms, covered, origin))


def _gaps(times_ms: np.ndarray, beat_ms: float, covered: float, origin: str) -> tuple[str, ...]:
    """Warnings about missing frames; InputError if the heart's motion cannot be interpolated over them."""
    steps = np.diff(times_ms)
    step = float(np.median(steps))
    gaps = [(times_ms[index], times_ms[index + 1]) for index in np.flatnonzero(steps > _GAP_STEPS * step)]
    if beat_ms > covered and times_ms[0] > _GAP_STEPS * step:
        gaps.insert(0, (-step, times_ms[0]))
    for start, end in gaps:
        if end - start - step > _LONGEST_GAP * beat_ms:
            raise InputError(
                f"{origin}: no frames between {max(start, 0):.0f} and {end:.0f} ms of the beat, about "
                f"{(end - start) / step - 1:.0f} at steps of {step:.0f} ms are missing; give the complete series."
            )
    notes = tuple(
        f"{origin}: no frames between {max(start, 0):.0f} and {end:.0f} ms of the beat; they were interpolated."
        for start, end in gaps
    )
    missing = 100 * (beat_ms - times_ms[-1] - step) / beat_ms
    if beat_ms > covered and missing >= 1:
        notes += (f"{origin}: the frames leave out the last {missing:.0f}% of the beat; it was interpolated.",)
    return notes


def _check_pixels(pixels: np.ndarray, origin: str) -> None:
    num_frames, num_rows, num_columns = pixels.shape
    check_num_frames(num_frames, origin)
    check_size(num_rows, num_columns, num_frames, origin)
    for index, frame in enumerate(pixels, start=1):
        where = f"{origin}: frame {index} of {num_frames}"
        if not np.isfinite(frame).all():
            raise InputError(f"{where} holds values that are not finite numbers; export it again.")
        if frame.min() == frame.max():
            raise InputError(
                f"{where} is empty (every pixel is {frame.min():g}); export the series again, or leave it out."
            )
        if np.abs(frame).max() > _MAX_INTENSITY:
            raise InputError(
                f"{where} holds values up to {np.abs(frame).max():g}, which no scanner writes; check the rescaling in "
                "the header, or export it again."
            )


def _check_plane(orientation: np.ndarray | None, position: np.ndarray | None, origin: str) -> None:
    if orientation is not None and plane_normal(orientation) is None:
        listed = ", ".join(f"{number:.3g}" for number in orientation)
        raise InputError(
            f"{origin}: the directions of rows and columns are {listed}, expected two perpendicular unit vectors; "
            "export it again."
        )
    if position is not None and not (np.abs(position) <= _MAX_POSITION_MM).all():
        listed = ", ".join(f"{number:.3g}" for number in position)
        raise InputError(
            f"{origin}: the plane would lie at {listed} mm, expected a place inside the scanner; check the header, or "
            "export it again."
        )
