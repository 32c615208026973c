"""The files of a scan's folder, and what a file is by its first bytes."""

import os
from pathlib import Path

NIFTI_SUFFIXES = (".nii", ".nii.gz")


def paths_below(folder: Path) -> list[Path]:
    """The files and folders below a folder, sorted; linked folders are followed, each real one once."""
    visited: set[str] = set()
    paths: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        paths += [Path(place, name) for name in (*folders, *names)]
    return sorted(paths)


def files_below(folder: Path) -> list[Path]:
    """The files of a folder and its sub-folders, without hidden ones; see `paths_below`."""
    return [path for path in paths_below(folder) if path.is_file() and not path.name.startswith(".")]


def is_nifti_name(path: Path) -> bool:
    """Whether a file is named as NIfTI files are."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def starts_as_dicom(content: bytes) -> bool:
    """Whether the first bytes of a file are DICOM: its mark after the preamble, or without one its first group."""
    return content[128:132] == b"DICM" or (content[:2] in (b"\2\0", b"\x08\0") and len(content) >= 132)


def is_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM does; False if it cannot be opened."""
    try:
        with path.open("rb") as stream:
            return starts_as_dicom(stream.read(132))
    except OSError:
        return False
