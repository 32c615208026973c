"""Whatever is wrong with a file, the answer is a cine or one sentence, never a traceback."""

import random
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_dicom_series

from cpgg_hf.data import PreparationError
from cpgg_hf.data.dicom import read_dicom_folder
from cpgg_hf.data.nifti import read_nifti, write_nifti

CASES = 60
CINE = np.random.default_rng(0).integers(0, 900, (8, 16, 16))


def damaged(content: bytes, draw: random.Random, header: int) -> bytes:
    """Bytes changed, removed, inserted or cut off, mostly in the header."""
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 5, 20])):
        place, kind = draw.randrange(min(len(changed), header)), draw.random()
        if kind < 0.6:
            changed[place] = draw.randrange(256)
        elif kind < 0.75:
            del changed[place : place + draw.randrange(1, 9)]
        elif kind < 0.9:
            changed[place:place] = draw.randbytes(draw.randrange(1, 9))
        else:
            del changed[draw.randrange(len(changed)) :]
        changed = changed or bytearray(b"x")
    return bytes(changed)


def read_all_damaged(read, path: Path, header: int) -> list[str]:
    """Messages of the refusals over many damaged versions of a file."""
    content, draw, messages = path.read_bytes(), random.Random(0), []
    for _ in range(CASES):
        path.write_bytes(damaged(content, draw, header))
        try:
            assert np.isfinite(read().frames).all()
        except PreparationError as error:
            messages.append(str(error))
    return messages


@pytest.mark.filterwarnings("ignore")
def test_damaged_dicom(tmp_path):
    path = write_dicom_series(tmp_path, CINE)[3]
    messages = read_all_damaged(lambda: read_dicom_folder(tmp_path), path, header=1200)
    assert len(messages) > CASES / 4
    assert all("\n" not in message and str(tmp_path) in message for message in messages)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["cine.nii", "cine.nii.gz"])
def test_damaged_nifti(tmp_path, name):
    path = write_nifti(tmp_path / name, CINE.astype(np.float32), 100.0)
    header = 360 if name.endswith("nii") else path.stat().st_size
    messages = read_all_damaged(lambda: read_nifti(path), path, header)
    assert len(messages) > CASES / 4
    assert all("\n" not in message and str(path) in message for message in messages)
