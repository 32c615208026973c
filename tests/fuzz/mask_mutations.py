"""Mutated masks: NIfTI files of labels for `--mask`, in all the forms that are read; odd labels, sizes and places."""

import gzip
import random
from pathlib import Path

import nibabel
import numpy as np

from cpgg_hf.plane import affine_of_plane

from .nifti_mutations import mutated_nifti

_ODD_LABELS = (-1, 6, 7, 255, 0.5, 1e-6, 1e30, float("nan"), float("inf"))
_ODD_AXES = ((0, 1, 2, 3), (1, 0, 2, 3), (0, 2, 1, 3), (3, 2, 1, 0), (0, 1, 3, 2))


def sound_labels() -> np.ndarray:
    """(column, row, 1, time) labels of a beating disc: LV cavity in a wall, with RV and atria at its sides."""
    rows, columns = np.mgrid[:24, :24] - 11.5
    radius = 6 + 2 * np.cos(2 * np.pi * np.arange(8) / 8)[:, None, None]
    labels = np.where(np.hypot(rows, columns) < radius, 2, 0)
    labels[np.hypot(rows, columns) < radius - 2] = 1
    labels[:, 4:8, 4:8], labels[:, 16:20, 4:8], labels[:, 16:20, 16:20] = 3, 4, 5
    return labels.transpose(2, 1, 0)[:, :, None]


def sound_masks(folder: Path) -> dict[str, bytes]:
    """Masks that can be read: of every frame or one, placed in the patient or not, of other pixels and types."""
    plane, fine = affine_of_plane((4.0, 4.0), shape=(24, 24)), affine_of_plane((2.0, 2.0), shape=(48, 48))
    labels = sound_labels()
    forms = {
        "frames": (labels.astype(np.uint8), plane),
        "float": (labels.astype(np.float32), plane),
        "still": (labels[..., :1].astype(np.int16), plane),
        "flat": (labels[:, :, 0, 0].astype(np.uint8), plane),
        "unplaced": (labels.astype(np.uint8), None),
        "fine": (labels.repeat(2, 0).repeat(2, 1).astype(np.uint8), fine),
        "flipped": (labels[::-1].astype(np.uint8), plane @ _flip(24)),
    }
    files = {}
    for name, (stored, affine) in forms.items():
        path = folder / f"{name}.nii"
        nibabel.save(_image(stored, affine), path)
        files[path.name] = path.read_bytes()
        files[f"{name}.nii.gz"] = gzip.compress(files[path.name], 1, mtime=0)
    return files


def mutated_mask(files: dict[str, bytes], folder: Path, draw: random.Random) -> Path:
    """A mask in a folder: one to three faults of any NIfTI file, or a sound file of labels that make no sense."""
    if draw.random() < 0.6:
        name, content = mutated_nifti(files, draw)
        path = folder / name.replace("cine", "mask")
        path.write_bytes(content)
        return path
    labels, affine = sound_labels().astype(np.float32), affine_of_plane((4.0, 4.0), shape=(24, 24))
    for _ in range(draw.choice([1, 1, 2])):
        match draw.randrange(6):
            case 0:
                labels.flat[draw.randrange(labels.size)] = draw.choice(_ODD_LABELS)
            case 1:
                labels *= draw.choice([0, 1, 2, -1])
            case 2:
                labels = labels[:: draw.choice([1, 2, -1]), : draw.choice([1, 5, 24]), :, : draw.choice([1, 3, 8])]
            case 3:
                labels = np.where(np.arange(labels.shape[-1]) == draw.randrange(8), labels, 0)
            case 4:
                labels = labels.transpose(draw.choice(_ODD_AXES))
            case _:
                affine = affine @ np.diag([*draw.choices([1.0, 0.0, -1.0, 1e-30, 1e30, 0.5], k=3), 1.0])
                affine[draw.randrange(3), 3] += draw.choice([0, 5, 50, 1e6, 1e300])
    path = folder / "mask.nii.gz"
    nibabel.save(_image(labels.astype(np.float32), draw.choice([affine, affine, None])), path)
    return path


def _flip(size: int) -> np.ndarray:
    """Column i of the mask is column size - 1 - i of the image."""
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = size - 1
    return flip


def _image(stored: np.ndarray, affine: np.ndarray | None) -> nibabel.Nifti1Image:
    image = nibabel.Nifti1Image(stored, None)
    if affine is not None:
        with np.errstate(over="ignore"):
            image.header.set_sform(affine, 1)  # as it is, also where it makes no plane
    return image
