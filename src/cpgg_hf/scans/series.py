"""One cine as it was acquired: its frames, where its plane lies in the patient, and when each frame was taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cpgg_hf.errors import InputError

MIN_FRAMES, MAX_FRAMES = 8, 500
MAX_PIXELS = 2**26  # of all frames: 256 of 512 x 512; a damaged header must not claim the memory
_MIN_FRAME_TIME_MS = 0.5
_MAX_INTENSITY = 1e12
_MAX_POSITION_MM = 1e4
_THICKNESS_MM = (0.1, 100.0)
_DIRECTION_TOLERANCE = 0.04  # of a unit vector's squared length, and of the cosine of a right angle
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
        InputError: too few or too many frames, an empty or non-finite frame; spacing, plane, times or heart beat
            without sense.
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
            raise InputError(
                f"{self.origin} holds {num_frames} frames, a cine needs at least {MIN_FRAMES}; give the whole series."
            )
        check_size(self.frames.shape[1], self.frames.shape[2], num_frames, self.origin)
        for index, frame in enumerate(self.frames, start=1):
            if not np.isfinite(frame).all():
                raise InputError(
                    f"{self.origin}: frame {index} of {num_frames} holds values that are no numbers; export it again."
                )
            if frame.min() == frame.max():
                raise InputError(
                    f"{self.origin}: frame {index} of {num_frames} is empty (every pixel is {frame.min():g}); "
                    "export the series again, or leave it out."
                )
            if np.abs(frame).max() > _MAX_INTENSITY:
                raise InputError(
                    f"{self.origin}: frame {index} of {num_frames} holds values up to {np.abs(frame).max():g}, which "
                    "no scanner writes; check the rescaling in the header, or export it again."
                )
        spacing = np.asarray(self.pixel_spacing_mm)
        if spacing.shape != (2,) or not ((spacing > 0.1) & (spacing < 10)).all():
            raise InputError(
                f"{self.origin}: the pixel spacing is {spacing.tolist()} mm, expected two numbers between 0.1 and 10; "
                "check the header."
            )
        self._check_plane()
        if not (np.isfinite(self.times_ms).all() and (np.diff(self.times_ms) >= _MIN_FRAME_TIME_MS).all()):
            raise InputError(
                f"{self.origin}: the frame times do not rise by at least {_MIN_FRAME_TIME_MS} ms a frame; check the "
                "trigger times."
            )
        if not MIN_RR_MS <= self.rr_ms <= MAX_RR_MS:
            raise InputError(
                f"{self.origin}: the heart beat would last {self.rr_ms:.0f} ms, expected {MIN_RR_MS:.0f} to "
                f"{MAX_RR_MS:.0f}; check the frame times, or give the RR interval in ms (rr_ms, --rr-ms)."
            )

    def _check_plane(self) -> None:
        if self.orientation is not None and plane_normal(self.orientation) is None:
            listed = ", ".join(f"{number:.3g}" for number in self.orientation)
            raise InputError(
                f"{self.origin}: the directions of rows and columns are {listed}, expected two perpendicular unit "
                "vectors; export it again."
            )
        if self.position is not None and not (np.abs(self.position) <= _MAX_POSITION_MM).all():
            listed = ", ".join(f"{number:.3g}" for number in self.position)
            raise InputError(
                f"{self.origin}: the plane would lie at {listed} mm, expected a place inside the scanner; check the "
                "header, or export it again."
            )

    @property
    def frame_time_ms(self) -> float:
        """The usual time from one frame to the next in ms."""
        return float(np.median(np.diff(self.times_ms)))

    @property
    def normal(self) -> np.ndarray | None:
        """(3,) unit normal of the plane in patient coordinates; its sign has no meaning. None where unknown."""
        return None if self.orientation is None else plane_normal(self.orientation)


def plane_normal(orientation: np.ndarray) -> np.ndarray | None:
    """(3,) unit normal of a plane given as in `CineSeries.orientation`; None where that is no perpendicular pair."""
    axes = np.asarray(orientation, dtype=np.float64).reshape(2, 3)
    if not (np.abs(axes) < 2).all():  # before products overflow
        return None
    products = axes @ axes.T
    if np.abs(products - np.eye(2)).max() > _DIRECTION_TOLERANCE:
        return None
    normal = np.cross(axes[0], axes[1])
    return normal / np.linalg.norm(normal)


def stated_thickness_mm(value: float) -> float | None:
    """A header's slice thickness, or None where it is none: 0 stands in many files for "not known"."""
    return value if _THICKNESS_MM[0] <= value <= _THICKNESS_MM[1] else None


def check_size(num_rows: int, num_columns: int, num_frames: int, origin: str) -> None:
    """Refuse a series of more frames or pixels than a cine of one beat has, by what its header says."""
    if num_frames > MAX_FRAMES:
        raise InputError(
            f"{origin} holds {num_frames} frames, a cine of one beat has at most {MAX_FRAMES}; give one slice of one "
            "beat."
        )
    if num_rows * num_columns * num_frames > MAX_PIXELS:
        raise InputError(
            f"{origin}: {num_frames} frames of {num_rows} x {num_columns} pixels are more than a cine has "
            f"({MAX_PIXELS:,} pixels); the header is damaged, or it is no cine."
        )


def check_rr_ms(rr_ms: float | None) -> None:
    """Refuse a length of the heart beat, as a caller gives it, that no heart has."""
    if rr_ms is not None and not MIN_RR_MS <= rr_ms <= MAX_RR_MS:
        raise InputError(
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
        raise InputError(
            f"{origin}: {len(times_ms)} frames cover {filled:.0f} ms of a beat of {stated_ms:.0f} ms; "
            "frames are missing, give the whole series."
        )
    missing = 100 * (1 - filled / stated_ms)
    return stated_ms, (f"{origin}: the frames leave out the last {missing:.0f}% of the beat; it was interpolated.",)
