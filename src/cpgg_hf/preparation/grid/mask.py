"""Read a user's segmentation, which locates the heart and is measured instead of a network's.

Labels are those of ukbb_cardiac's four-chamber segmentations (Bai et al. 2018): 0 background, 1 LV cavity, 2 LV
myocardium, 3 RV, 4 LA, 5 RA. They are the first six of `phantom.LABELS`.
"""

import os
from pathlib import Path

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.errors import InputError
from cpgg_hf.scans.checks import check_size
from cpgg_hf.scans.nifti import open_nifti, slice_last, stored_values

_LARGEST_LABEL = 5
_FORM = "0 background, 1 LV cavity, 2 LV myocardium, 3 RV, 4 LA, 5 RA"


def read_mask(path: str | os.PathLike[str], scan: Cine) -> np.ndarray:
    """The labels of a NIfTI file on the pixels of a scan.

    If both state their position in the patient, flips and other pixel sizes do not matter; otherwise the file must
    have the scan's rows and columns, as stored.

    Args:
        path: axes (column, row), (column, row, 1), or (column, row, 1, time) with one time per frame or only one; the
            only slice may lie along another axis, as in `read_nifti`.
        scan: the scan that `prepare_scan` will receive.

    Returns:
        (T, H, W) or, for only one time, (1, H, W) uint8, values 0 to 5.

    Raises:
        InputError: no such file, other axes, other labels, another plane, or only background.
    """
    path = Path(path)
    try:
        image, _ = open_nifti(path)
        axes = slice_last(image.shape) if len(image.shape) > 2 else (0, 1)
        _check_axes((*(image.shape[axis] for axis in axes), *image.shape[3:]), scan, path)
        stored = stored_values(image, path)
    except InputError as error:
        raise InputError(f"the mask {error}") from None
    stored = stored.transpose(*axes, *range(3, stored.ndim))
    by_time = stored.reshape(*stored.shape[:2], -1).transpose(2, 1, 0)
    with np.errstate(invalid="ignore"):  # NaN is not a label either
        odd = by_time[~((by_time >= 0) & (by_time <= _LARGEST_LABEL) & (by_time % 1 == 0))]
    if odd.size:
        raise InputError(f"the mask {path} holds the label {odd[0]:g}; expected {_FORM}.")
    affine = np.asarray(image.affine, dtype=np.float64)[:, [*axes, *range(len(axes), 4)]]
    placed = bool(image.header["qform_code"] or image.header["sform_code"])
    labels = _on_pixels(by_time.astype(np.uint8), affine if placed else None, scan, path)
    if not labels.any():
        raise InputError(f"the mask {path} marks nothing in the image; expected {_FORM}.")
    return labels


def _check_axes(shape: tuple[int, ...], scan: Cine, path: Path) -> None:
    """Check the header before the values are read: they may not fit into the memory."""
    if len(shape) not in (2, 3, 4) or (len(shape) > 2 and shape[2] != 1) or min(shape) < 1:
        raise InputError(f"{path} has axes {shape}, expected (columns, rows, 1) or (columns, rows, 1, time).")
    num_times = shape[3] if len(shape) == 4 else 1
    if num_times not in (1, len(scan)):
        raise InputError(
            f"{path} has {num_times} times, the cine {len(scan)} frames; give one mask per frame, or one for all."
        )
    check_size(shape[1], shape[0], num_times, str(path))


def _on_pixels(labels: np.ndarray, affine: np.ndarray | None, scan: Cine, path: Path) -> np.ndarray:
    if affine is None or scan.orientation is None or scan.position is None:
        if labels.shape[1:] != scan.pixels.shape[1:]:
            raise InputError(
                f"the mask {path} has {labels.shape[1:]} rows and columns, the cine {scan.pixels.shape[1:]}; "
                "give a mask of this image."
            )
        return labels
    rows, columns = np.indices(scan.pixels.shape[1:])
    with np.errstate(all="ignore"):
        try:
            to_index = np.linalg.inv(affine) @ scan.affine
        except np.linalg.LinAlgError:
            to_index = np.full((4, 4), np.nan)
        index = np.stack([columns, rows], axis=-1) @ to_index[:3, :2].T + to_index[:3, 3]
    if not np.isfinite(index).all():
        raise InputError(f"the mask {path} has axes that span no plane; save it with the image's own affine.")
    if np.abs(index[..., 2]).max() > 1:
        raise InputError(
            f"the mask {path} lies in another plane than the cine, up to {np.abs(index[..., 2]).max():.1f} slices "
            "away; give a mask of this image."
        )
    nearest = np.rint(index[..., :2])
    inside = ((nearest >= 0) & (nearest < labels.shape[:0:-1])).all(axis=-1)
    column, row = np.where(inside[..., None], nearest, 0).astype(int).transpose(2, 0, 1)
    return np.where(inside, labels[:, row, column], 0).astype(np.uint8)
