"""A small phantom heart as each collection would store it."""

from functools import cache
from pathlib import Path

import nibabel
import numpy as np
from dicom_files import FOUR_CHAMBER, SHORT_AXIS, write_dicom_series

from cpgg_hf import phantom
from cpgg_hf.plane import affine_of_plane


@cache
def heart(seed: int = 0) -> np.ndarray:
    """(10, 96, 96) frames over one beat, 0 to 255; frame 0 is end-diastole."""
    return phantom.render(phantom.sample_phenotypes(1, seed)[0], seed).cine.pixels[::5]


def save_nifti(path: Path, slices: list[np.ndarray], orientation=SHORT_AXIS, frame_time=0.09) -> Path:
    """Slices (T, H, W) as a NIfTI stack of 1.8 mm pixels; `frame_time` in seconds."""
    affine = affine_of_plane((1.8, 1.8), np.array(orientation), np.zeros(3), 8.0)
    image = nibabel.Nifti1Image(np.stack(slices).astype(np.int16).transpose(3, 2, 0, 1), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((1.8, 1.8, 8.0, frame_time))
    image.set_sform(affine, code=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def save_stack_of_nifti(path: Path, middle: np.ndarray, **details) -> Path:
    """Three slices, of which only the middle one beats."""
    still = np.repeat(middle[:1], len(middle), axis=0)
    return save_nifti(path, [still, middle, still], **details)


def save_dicom(folder: Path, cine: np.ndarray, four_chamber: bool = False, slice_number: int = 0) -> None:
    """A slice as DICOM frames named as Kaggle and Sunnybrook name theirs, without a SeriesDescription."""
    orientation = FOUR_CHAMBER if four_chamber else SHORT_AXIS
    normal = np.cross(orientation[:3], orientation[3:])
    write_dicom_series(
        folder,
        cine,
        spacing=(1.8, 1.8),
        orientation=orientation,
        position=tuple(np.array([-80.0, -60.0, 40.0]) + 8 * slice_number * normal),
        description="",
        series_uid="1.2.3.4",
        prefix=f"IM-{slice_number:04d}-",
    )
