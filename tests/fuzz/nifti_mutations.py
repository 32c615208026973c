"""Mutated NIfTI files: fields of the header, types and values of the voxels, the compressed stream."""

import gzip
import random
from pathlib import Path

import nibabel
import numpy as np

from cpgg_hf.plane import affine_of_plane

from .byte_mutations import damaged
from .dicom_mutations import beating_disc

_TYPES = ("uint8", "int8", "uint16", "int16", "int32", "float32", "float64", "uint32", "int64")
_ODD_FLOATS = (
    *(0.0, -0.0, -1.0, 1.0, 2.0, 0.1, 1e-3, 112.5, 1e3, 1e-30, 1e-45, 1e30, 3e38, -3e38),
    *(float("nan"), float("inf"), float("-inf"), 352.0, 353.0, 348.0, 1e9),
)
_ODD_INTEGERS = (0, 1, -1, 2, 3, 4, 7, 8, 12, 16, 24, 127, 255, 512, 4096, 30000, 32767, -32768, 2**31 - 1, 2**40)
_DECISIVE = ("dim", "pixdim", "datatype", "bitpix", "vox_offset", "scl_slope", "scl_inter", "xyzt_units", "sform_code")


def sound_files(folder: Path) -> dict[str, bytes]:
    """Files that can be read, by a name that ends as theirs does."""
    files = {}
    cine = beating_disc().transpose(2, 1, 0)[:, :, None]
    affine = affine_of_plane((4.0, 4.0), shape=(24, 24))
    for number, kind in enumerate(_TYPES):
        scaled = cine / 10 if kind.endswith("int8") else cine
        for image_class, ending in ((nibabel.Nifti1Image, "nii"), (nibabel.Nifti2Image, "nii.gz")):
            image = image_class(scaled.astype(kind), affine, dtype=kind)
            image.header.set_xyzt_units("mm", "msec")
            image.header.set_zooms((4, 4, 6, 110))
            path = folder / f"{number}-{kind}.{ending}"
            nibabel.save(image, path)
            files[path.name] = path.read_bytes()
    for name in ("5-float32.nii", "3-int16.nii"):
        files[f"{name}.gz"] = gzip.compress(files[name], 1, mtime=0)
    image = nibabel.Nifti1Image(beating_disc().transpose(2, 1, 0).astype(np.float32), affine)
    image.header.set_zooms((4, 4, 1))
    nibabel.save(image, folder / "three-axes.nii")
    files["three-axes.nii"] = (folder / "three-axes.nii").read_bytes()
    return files


def mutated_nifti(files: dict[str, bytes], draw: random.Random) -> tuple[str, bytes]:
    """A file with one to three faults, and the name that it has."""
    name = draw.choice(list(files))
    packed = name.endswith(".gz")
    content = gzip.decompress(files[name]) if packed else files[name]
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        kind = draw.random()
        if kind < 0.6:
            content = _field(content, draw)
        elif kind < 0.8:
            content = _voxels(content, draw)
        else:
            content = damaged(content, draw, draw.choice([348, 600, len(content)]))
    if packed:
        content = gzip.compress(content, 1, mtime=0)
        if draw.random() < 0.2:
            content = damaged(content, draw, len(content))
    ending = ".nii.gz" if packed else ".nii"
    return "cine" + (draw.choice([".nii", ".nii.gz", ".img", ".hdr", ""]) if draw.random() < 0.03 else ending), content


def _header_type(content: bytes) -> np.dtype:
    second = content[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c")
    return (nibabel.Nifti2Header if second else nibabel.Nifti1Header).template_dtype


def _field(content: bytes, draw: random.Random) -> bytes:
    """One field of the header, or one number of it, set to something odd."""
    dtype = _header_type(content)
    if len(content) < dtype.itemsize:
        return content
    header = np.frombuffer(content[: dtype.itemsize], dtype).copy()
    name = draw.choice(_DECISIVE if draw.random() < 0.7 else dtype.names)
    field = header[name].reshape(-1)
    place = draw.randrange(len(field))
    if field.dtype.kind == "f":
        field[place] = draw.choice(_ODD_FLOATS)
    elif field.dtype.kind in "iu":
        odd = np.array(draw.choice(_ODD_INTEGERS), dtype=np.int64)
        field[place] = odd.astype(field.dtype)  # wraps around
    else:
        field[place] = draw.randbytes(draw.randrange(field.dtype.itemsize + 1))
    header[name] = field.reshape(header[name].shape)
    return header.tobytes() + content[dtype.itemsize :]


def _voxels(content: bytes, draw: random.Random) -> bytes:
    """Some of the voxels' bytes: all of them, a frame, or a few numbers that are none."""
    start = min(len(content), 544 if _header_type(content).itemsize > 348 else 352)
    voxels = bytearray(content[start:])
    if not voxels:
        return content
    frame = len(voxels) // 8
    first = draw.randrange(8) * frame
    match draw.randrange(6):
        case 0:
            voxels[first : first + frame] = bytes(frame)
        case 1:
            voxels[:] = voxels[:frame] * 8
        case 2:
            odd = np.array(draw.choice(_ODD_FLOATS), dtype=draw.choice(["<f4", "<f8"])).tobytes()
            voxels[first : first + len(odd)] = odd
        case 3:
            voxels[:] = b"\x7f\xff" * (len(voxels) // 2)
        case 4:
            voxels[first : first + frame] = draw.randbytes(frame)
        case _:
            del voxels[draw.randrange(len(voxels)) :]
    return content[:start] + bytes(voxels)
