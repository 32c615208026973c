"""Phantoms with exact reference values, rendered once."""

import numpy as np
import pytest
import torch

from cpgg_hf.segmentation.phantom_frames import coverage, render_subject


@pytest.fixture(scope="package")
def subjects():
    return [render_subject("test", index) for index in range(4)]


@pytest.fixture(scope="package")
def exact_coverage(subjects):
    return [torch.from_numpy(coverage(subject.outlines, np.arange(50))) for subject in subjects]


def polygon_area(outline: np.ndarray) -> np.ndarray:
    """Unsigned area of closed outlines (..., N, 2) by the shoelace formula."""
    x, y = outline[..., 0], outline[..., 1]
    return 0.5 * np.abs(np.sum(x * np.roll(y, -1, -1) - y * np.roll(x, -1, -1), axis=-1))
