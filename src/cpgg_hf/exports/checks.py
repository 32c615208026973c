"""What every writer refuses: numbers that no file format can state, or that no cine has."""

from dataclasses import replace

import numpy as np

from cpgg_hf.cine import Cine

_RR_MS = (1.0, 60_000.0)  # files hold the RR interval in whole ms and the heart rate in whole bpm


def checked(cine: Cine) -> Cine:
    """The cine, if it can be written.

    Raises:
        ValueError: pixels that are NaN or infinite or outside the range of a `Cine` (its arrays may have been changed
            since it was made), an RR interval outside 1 ms to 60 s, or a slice thickness that is not positive.
    """
    cine = replace(cine)  # checks the range again
    if not np.isfinite(cine.pixels).all():
        number = int((~np.isfinite(cine.pixels)).sum())
        raise ValueError(f"{number} pixels of {cine.origin} are NaN or infinite; replace them by numbers.")
    rr_ms = len(cine) * cine.frame_time_ms
    if not _RR_MS[0] <= rr_ms <= _RR_MS[1]:
        raise ValueError(
            f"{len(cine)} frames of {cine.frame_time_ms:g} ms are an RR interval of {rr_ms:g} ms, expected "
            f"{_RR_MS[0]:g} to {_RR_MS[1]:g}; give frame_time_ms in ms."
        )
    thickness = cine.slice_thickness_mm
    if thickness is not None and not 0 < thickness < np.inf:
        raise ValueError(f"slice_thickness_mm must be a positive number or None, given {thickness}.")
    return cine
