"""Phantoms whose truth is known, rendered once."""

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
