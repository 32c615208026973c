"""One cine as it was acquired: its frames, where its plane lies in the patient, and when each frame was taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cpgg_hf.data.errors import PreparationError

MIN_FRAMES = 8
# 24 to 250 beats a minute: outside, a time is in the wrong unit or belongs to something else than a heart.
MIN_RR_MS, MAX_RR_MS = 240.0, 2500.0


@dataclass(frozen=True)
class CineSeries:
    """One slice over one heart beat.

    Attributes:
        frames: (T, H, W) float32 in the scanner's units, in order of time; rows run down, columns to the right.
        pixel_spacing_mm: (2,) distance between rows and distance between columns.
        times_ms: (T,) time of each frame after the R wave, rising.
        rr_ms: length of the heart beat.
        orientation: (6,) direction of a row (rising column index), then of a column (rising row index), unit vectors
            in patient coordinates as in DICOM: x to the left, y to the back, z to the head. None where unknown.
        position: (3,) centre of the first pixel, patient coordinates in mm. None where unknown.
        slice_thickness_mm: thickness of the slice; None where unknown.
        origin: the folder or file it was read from, for messages.
        source: "dicom" or "nifti".
        prepared: whether `cpgg prepare` wrote it: an acquired heart that lies on the package's grid already.
        warnings: what was found odd and how it was read nevertheless, one sentence each.

    Raises:
        PreparationError: too few frames, an empty or non-finite frame, spacing, times or heart beat without sense.
    """

    frames: np.ndarray
    pixel_spacing_mm: np.ndarray
    times_ms: np.ndarray
    rr_ms: float
    orientation: np.ndarray | None
    position: np.ndarray | None
    slice_thickness_mm: float | None
    origin: str
    source: str
    prepared: bool = False
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        num_frames = len(self.frames)
        if num_frames < MIN_FRAMES:
            raise PreparationError(
                f"{self.origin} holds {num_frames} frames, a cine needs at least {MIN_FRAMES}; give the whole series."
            )
        for index, frame in enumerate(self.frames, start=1):
            if not np.isfinite(frame).all():
                raise PreparationError(
                    f"{self.origin}: frame {index} of {num_frames} holds values that are no numbers; export it again."
                )
            if frame.min() == frame.max():
                raise PreparationError(
                    f"{self.origin}: frame {index} of {num_frames} is empty (every pixel is {frame.min():g}); "
                    "export the series again, or leave it out."
                )
        spacing = np.asarray(self.pixel_spacing_mm)
        if spacing.shape != (2,) or not ((spacing > 0.1) & (spacing < 10)).all():
            raise PreparationError(
                f"{self.origin}: the pixel spacing is {spacing.tolist()} mm, expected two numbers between 0.1 and 10; "
                "check the header."
            )
        if not (np.isfinite(self.times_ms).all() and (np.diff(self.times_ms) > 0).all()):
            raise PreparationError(f"{self.origin}: the frame times do not rise; check the trigger times.")
        if not MIN_RR_MS <= self.rr_ms <= MAX_RR_MS:
            raise PreparationError(
                f"{self.origin}: the heart beat would last {self.rr_ms:.0f} ms, expected {MIN_RR_MS:.0f} to "
                f"{MAX_RR_MS:.0f}; check the frame times, or give the RR interval in ms (rr_ms, --rr-ms)."
            )

    @property
    def frame_time_ms(self) -> float:
        """The usual time from one frame to the next in ms."""
        return float(np.median(np.diff(self.times_ms)))

    @property
    def normal(self) -> np.ndarray | None:
        """(3,) unit normal of the plane in patient coordinates; its sign has no meaning. None where unknown."""
        if self.orientation is None:
            return None
        normal = np.cross(self.orientation[:3], self.orientation[3:])
        return normal / np.linalg.norm(normal)


def check_rr_ms(rr_ms: float | None) -> None:
    """Refuse a length of the heart beat, as a caller gives it, that no heart has."""
    if rr_ms is not None and not MIN_RR_MS <= rr_ms <= MAX_RR_MS:
        raise PreparationError(
            f"the RR interval is given as {rr_ms:g} ms (rr_ms, --rr-ms), expected {MIN_RR_MS:.0f} to {MAX_RR_MS:.0f}; "
            "give the length of one heart beat in milliseconds."
        )


def beat_length_ms(times_ms: np.ndarray, stated_ms: float | None, origin: str) -> tuple[float, tuple[str, ...]]:
    """The length of the beat that the frames sample, and a warning where they leave a part of it out.

    Retrospectively gated frames fill the beat, so their number times their distance is its length; the stated length
    (often rounded, or of the beat before) decides only where it is clearly longer: prospective gating misses the end.
    """
    filled = len(times_ms) * float(np.median(np.diff(times_ms)))
    if stated_ms is None or not MIN_RR_MS <= stated_ms <= MAX_RR_MS or stated_ms < 1.1 * filled:
        return filled, ()
    if stated_ms > 1.6 * filled:
        raise PreparationError(
            f"{origin}: {len(times_ms)} frames cover {filled:.0f} ms of a beat of {stated_ms:.0f} ms; "
            "frames are missing, give the whole series."
        )
    missing = 100 * (1 - filled / stated_ms)
    return stated_ms, (f"{origin}: the frames leave out the last {missing:.0f}% of the beat; it was interpolated.",)
