"""Small fake subjects for tests of cohorts: discs that beat, read by functions that worker processes can import."""

import os
import signal
import time
from functools import partial

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.errors import InputError
from cpgg_hf.preparation.layouts.subject import Subject

# Planes of a textbook four-chamber view, and of a short-axis view of the same heart.
FOUR_CHAMBER = (0.99781, -0.04245, 0.05064, 0.0, 0.76634, 0.64244)
SHORT_AXIS = (0.70711, 0.70711, 0.0, -0.33196, 0.33196, -0.88295)


def beating_disc(path: str, seed: int, seconds: float = 0.0, orientation=FOUR_CHAMBER) -> Cine:
    """10 frames of 48 x 48 pixels of 3 mm; no two seeds give the same."""
    time.sleep(seconds)
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:48, :48] - 24 + rng.uniform(-3, 3, (2, 1, 1))
    radius = 9 + 3 * np.cos(2 * np.pi * np.arange(10) / 10) + rng.uniform(-1, 1)
    frames = 20 + 180 / (1 + np.exp(np.hypot(rows, columns)[None] - radius[:, None, None]))
    return Cine(
        pixels=(frames + rng.normal(0, 2, frames.shape)).astype(np.float32),
        scanner_units=True,
        spacing_mm=(3.0, 3.0),
        frame_time_ms=90.0,
        rr_ms=900.0,
        orientation=np.array(orientation),
        position=np.zeros(3),
        slice_thickness_mm=6.0,
        origin=path,
        source="fake",
        warnings=(f"{path}: read as it is.",),
    )


def damaged(path: str) -> Cine:
    raise InputError(f"{path}/image 1.dcm is cut off at '{path}'; copy it again.")


def kill_the_worker(path: str) -> Cine:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(path: str) -> Cine:
    """As a library does that never returns and takes no signals."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGTERM, signal.SIGINT})
    time.sleep(600)


def fake_cohort(number: int, seconds: float = 0.0) -> list[Subject]:
    """Subjects named by seven digits, as a biobank names them; each one's LVEF is known."""
    subjects = []
    for index in range(number):
        identifier = f"{4_000_000 + 7919 * index}"
        phenotypes = np.full(82, np.nan)
        phenotypes[3] = 50 + index / 10
        read = partial(beating_disc, f"/bulk/{identifier}_20208_2_0.zip", index, seconds)
        subjects.append(Subject(identifier, read, phenotypes, source="ukb"))
    return subjects
