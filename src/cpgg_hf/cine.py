"""`Cine`: one slice over one heart beat, with its geometry, phenotypes and provenance.

Readers return it, preparation maps it, the phantom renders it, measurement, data sets and exports take it.
`to_network` and `from_network` are the conversions to and from the range [-1, 1] of the 3D-VAE.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cpgg_hf.data_policy import UNKNOWN_POLICY
from cpgg_hf.grid import SPACING_MM
from cpgg_hf.plane import affine_of_plane, plane_normal

NUM_PHENOTYPES = 82
VIEWS = ("4ch", "2ch", "3ch", "sax", "unknown")
_RANGE_TOLERANCE = 1e-5  # a float32 round trip through [-1, 1] may leave [0, 1] by an ulp or two


@dataclass(frozen=True, eq=False, kw_only=True)
class Cine:
    """One slice over one heart beat.

    Attributes:
        pixels: (T, H, W): uint8 in 0 to 255, or float in [0, 1]; with `scanner_units` float of any range. Rows run
            down, columns to the right; frame 0 is the first after the R wave.
        frame_time_ms: time from one frame to the next; of unevenly spaced frames the median.
        spacing_mm: distance between rows and between columns; one number stands for both.
        times_ms: (T,) time of each frame after the R wave; by default multiples of the frame time.
        rr_ms: length of the heart beat; by default the frames fill it.
        scanner_units: whether the pixels are an unscaled image.
        orientation: (6,) direction of a row, then of a column, see `plane`; None = unknown.
        position: (3,) centre of the first pixel in mm (LPS); None = unknown.
        slice_thickness_mm: None = unknown.
        view: "4ch", "2ch", "3ch", "sax" or "unknown".
        phenotypes: (82,) in physical units, NaN = missing; None = none is known.
        subject: name within a data set; never an identifier of a hospital or biobank.
        source: "dicom", "nifti", "phantom", "cpgg", ...
        acquired: whether a scanner made it; False for phantoms and generated cines.
        seed: the random seed of a synthetic cine.
        data_policy: "restricted", "public" or "phantom"; any other word counts as restricted.
        origin: the file or folder it was read from, for messages.
        warnings: one sentence for each oddity of the input and how it was read.

    Raises:
        ValueError: a wrong shape or type, values outside the range, a spacing or time that is not positive, times that
            do not rise, a degenerate plane, an unknown view.
    """

    pixels: np.ndarray
    frame_time_ms: float
    spacing_mm: tuple[float, float] = SPACING_MM  # type: ignore[assignment]
    times_ms: np.ndarray = None  # type: ignore[assignment]
    rr_ms: float = None  # type: ignore[assignment]
    scanner_units: bool = False
    orientation: np.ndarray | None = None
    position: np.ndarray | None = None
    slice_thickness_mm: float | None = None
    view: str = "unknown"
    phenotypes: np.ndarray | None = None
    subject: str = ""
    source: str = ""
    acquired: bool = False
    seed: int | None = None
    data_policy: str = UNKNOWN_POLICY
    origin: str = "the cine"
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        pixels = np.asarray(self.pixels)
        if pixels.ndim != 3 or 0 in pixels.shape:
            raise ValueError(f"a cine has three axes (T, H, W), given {pixels.shape}; pass one cine at a time.")
        if pixels.dtype.kind not in "uif":
            raise ValueError(f"the pixels of a cine are real numbers, given {pixels.dtype}.")
        if pixels.dtype != np.uint8 and not self.scanner_units:
            low, high = float(pixels.min()), float(pixels.max())
            if not (low >= -_RANGE_TOLERANCE and high <= 1 + _RANGE_TOLERANCE):
                raise ValueError(
                    f"a {pixels.dtype} cine must lie in [0, 1], given {low:g} to {high:g}; scale it, or pass uint8."
                )
        spacing = np.broadcast_to(np.asarray(self.spacing_mm, dtype=np.float64), (2,))
        rr_ms = len(pixels) * self.frame_time_ms if self.rr_ms is None else self.rr_ms
        for name, value in (("spacing_mm", spacing), ("frame_time_ms", self.frame_time_ms), ("rr_ms", rr_ms)):
            if not (np.isfinite(value).all() and np.min(value) > 0):
                raise ValueError(f"{name} must be a positive number, given {value}.")
        times_ms = np.arange(len(pixels)) * self.frame_time_ms if self.times_ms is None else self.times_ms
        if len(times_ms) != len(pixels):
            raise ValueError(f"{len(times_ms)} times for {len(pixels)} frames; give one time per frame.")
        if not (np.isfinite(times_ms).all() and (np.diff(times_ms) > 0).all()):
            raise ValueError(f"times_ms must rise from frame to frame, given {times_ms}.")
        axes = np.array([1, 0, 0, 0, 1, 0]) if self.orientation is None else np.asarray(self.orientation)
        if axes.shape != (6,) or not np.linalg.norm(np.cross(axes[:3], axes[3:])) > 0:
            raise ValueError(f"orientation must be two directions that span a plane, given {self.orientation}.")
        if self.position is not None and not (np.shape(self.position) == (3,) and np.isfinite(self.position).all()):
            raise ValueError(f"position must be three finite numbers, given {self.position}.")
        if self.view not in VIEWS:
            raise ValueError(f"view must be one of {', '.join(VIEWS)}, given {self.view!r}.")
        if self.phenotypes is not None:
            phenotypes = np.asarray(self.phenotypes, dtype=np.float64)
            if phenotypes.shape != (NUM_PHENOTYPES,):
                raise ValueError(f"phenotypes must have shape ({NUM_PHENOTYPES},), given {phenotypes.shape}.")
            object.__setattr__(self, "phenotypes", phenotypes)
        object.__setattr__(self, "pixels", pixels)
        object.__setattr__(self, "frame_time_ms", float(self.frame_time_ms))
        object.__setattr__(self, "spacing_mm", (float(spacing[0]), float(spacing[1])))
        object.__setattr__(self, "times_ms", times_ms)
        object.__setattr__(self, "rr_ms", rr_ms)

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.pixels)

    @property
    def pixel_size_mm(self) -> float:
        """The size of square pixels in mm; ValueError for others."""
        if not np.isclose(*self.spacing_mm, rtol=1e-3):
            raise ValueError(
                f"{self.origin} has pixels of {self.spacing_mm} mm, expected square ones; prepare it first."
            )
        return self.spacing_mm[0]

    @property
    def normal(self) -> np.ndarray | None:
        """Unit normal (3,) of the plane (LPS); None where the orientation is unknown."""
        return None if self.orientation is None else plane_normal(self.orientation)

    @property
    def affine(self) -> np.ndarray:
        """NIfTI affine (4, 4); a textbook four-chamber plane where the plane is unknown."""
        return affine_of_plane(
            self.spacing_mm, self.orientation, self.position, self.slice_thickness_mm, self.pixels.shape[1:]
        )

    @property
    def unit(self) -> np.ndarray:
        """The pixels as float32 in [0, 1]; ValueError for scanner units."""
        if self.scanner_units:
            raise ValueError(f"{self.origin} is in the scanner's units; prepare it first.")
        if self.pixels.dtype == np.uint8:
            return self.pixels.astype(np.float32) / 255
        return self.pixels.astype(np.float32, copy=False).clip(0, 1)

    @property
    def uint8(self) -> np.ndarray:
        """The pixels as uint8: [0, 1] rounded to 255 levels."""
        if self.pixels.dtype == np.uint8 and not self.scanner_units:
            return self.pixels
        return np.round(self.unit * 255).astype(np.uint8)

    def with_pixels(self, pixels: np.ndarray, **changes: Any) -> "Cine":
        """A cine of other pixels with the same number of frames."""
        return replace(self, pixels=pixels, **changes)


def to_network(cines: Any) -> Any:
    """A tensor of uint8 cines (B, T, H, W) as float32 (B, 1, T, H, W) in [-1, 1]."""
    return cines.unsqueeze(1).float() / 127.5 - 1.0


def from_network(cines: Any) -> Any:
    """A network's tensor (B, 1, T, H, W) in [-1, 1] as float32 (B, T, H, W) in [0, 1]."""
    return (cines.squeeze(1).float() * 0.5 + 0.5).clamp(0.0, 1.0)
