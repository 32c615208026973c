"""NIfTI files as other software writes them: pixels, an affine, a frame time."""

import nibabel
import numpy as np

from cpgg_hf.plane import affine_of_plane


def write_nifti(path, pixels, frame_time_ms, spacing_mm=1.8, affine=None, description=""):
    """Pixels (T, H, W) with axes (columns, rows, 1, time) in mm and ms; uint8 stays, others become float32."""
    pixels = np.asarray(pixels)
    pixels = pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)
    if affine is None:
        affine = affine_of_plane((spacing_mm, spacing_mm), shape=pixels.shape[1:])
    image = nibabel.Nifti1Image(np.ascontiguousarray(pixels.transpose(2, 1, 0)[:, :, None, :]), affine)
    image.header.set_xyzt_units("mm", "msec")
    image.header.set_zooms((*image.header.get_zooms()[:3], frame_time_ms))
    image.header["descrip"] = description
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    nibabel.save(image, path)
    return path
