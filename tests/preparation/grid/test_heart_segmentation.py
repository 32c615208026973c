"""What is made of a field's segmentation; the segmentation itself is the exact one of embedded phantoms."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cpgg_hf.errors import InputError
from cpgg_hf.phantom import LABELS
from cpgg_hf.preparation.grid.heart_segmentation import require_heart, segment_field

PHASES = np.arange(50) / 50


class Oracle:
    """Gives the labels of an embedded heart as probabilities, whatever the padding, mirrored as the image is."""

    config = SimpleNamespace(block_out_channels=(1, 1, 1, 1, 1))

    def __init__(self, heart, confidence=0.96, without=(), shift=(0, 0)):
        labels = np.zeros(heart.field.shape, dtype=np.uint8)
        top, left = np.array(heart.corner) + shift
        labels[:, top : top + 96, left : left + 96] = heart.labels
        for name in without:
            labels[labels == LABELS[name]] = 0
        self.labels, self.confidence, self.first = labels, confidence, None

    def segment(self, cine):
        self.first = cine if self.first is None else self.first
        axes = next(axes for axes in ((), (1,), (2,), (1, 2)) if torch.equal(cine.flip(axes), self.first))
        return self._unmirrored(cine).flip([axis + 1 for axis in axes])

    def _unmirrored(self, cine):
        given = np.zeros(cine.shape, dtype=np.uint8)
        given[:, : self.labels.shape[1], : self.labels.shape[2]] = self.labels
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(given).long(), len(LABELS)).permute(0, 3, 1, 2).float()
        return one_hot * (self.confidence - (1 - self.confidence) / 6) + (1 - self.confidence) / 6


def segmented(heart, **options):
    return segment_field(heart.field / heart.field.max(), 1.8, Oracle(heart, **options))


def test_the_middle_and_the_areas_are_those_of_the_labels(heart):
    found = segmented(heart)
    np.testing.assert_allclose(found.center, (heart.low + heart.high) / 2, atol=2)
    area = (heart.labels == LABELS["LV cavity"]).sum(axis=(1, 2)).mean() * 1.8**2
    assert found.areas_mm2["LV cavity"] == pytest.approx(0.96 * area, rel=0.1)  # and a little everywhere
    assert found.view == "4ch"
    require_heart(found, heart.field, PHASES, "4ch")


def test_what_lies_apart_from_the_heart_is_no_heart(heart):
    oracle = Oracle(heart)
    oracle.labels[:, -6:, -6:] = LABELS["RA"]
    found = segment_field(heart.field / heart.field.max(), 1.8, oracle)
    np.testing.assert_allclose(found.center, (heart.low + heart.high) / 2, atol=2)
    assert found.probabilities[:, LABELS["RA"], -6:, -6:].max() == 0
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("without", "view"),
    [
        (("LA", "RA"), "sax"),
        (("RV cavity", "RA"), "2ch"),
        (("RA",), "3ch"),
        (("LV cavity",), "unknown"),
    ],
)
def test_chambers_tell_the_view_and_another_one_is_refused(heart, without, view):
    found = segmented(heart, confidence=0.999, without=without)
    assert found.view == view
    require_heart(found, heart.field, PHASES, "any")
    with pytest.raises(InputError, match=r"does not show four-chamber .4CH. but looks like .*--view any"):
        require_heart(found, heart.field, PHASES, "4ch")


def test_doubt_is_a_reason(heart):
    with pytest.raises(InputError, match=r"low segmentation confidence .0.6"):
        require_heart(segmented(heart, confidence=0.65), heart.field, PHASES, "4ch")
    with pytest.raises(InputError, match="no heart detected"):
        require_heart(segmented(heart, without=list(LABELS)), heart.field, PHASES, "4ch")
    away = np.array([1, 1]) * np.where(heart.corner > 25, -1, 1) * 25
    with pytest.raises(InputError, match=r"lies \d+ mm from the beating region"):
        require_heart(segmented(heart, shift=away), heart.field, PHASES, "4ch")
