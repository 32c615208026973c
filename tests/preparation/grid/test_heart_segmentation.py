"""What is made of a field's segmentation; the segmentation itself is the exact one of embedded phantoms."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cpgg_hf.errors import InputError
from cpgg_hf.phantom import LABELS
from cpgg_hf.preparation.grid.heart_segmentation import load_scan_segmenter, require_heart, segment_field

SHIPPED = Path(__file__).parents[3] / "checkpoints" / "cpgg-phantom-small"
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
        height, width = self.labels.shape[1:]
        image = cine[:, :height, :width]  # without the padding
        self.first = image if self.first is None else self.first
        axes = next(axes for axes in ((), (1,), (2,), (1, 2)) if torch.equal(image.flip(axes), self.first))
        given = torch.zeros(cine.shape, dtype=torch.long)
        given[:, :height, :width] = torch.from_numpy(self.labels).long().flip(axes)
        one_hot = torch.nn.functional.one_hot(given, len(LABELS)).permute(0, 3, 1, 2).float()
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


def test_a_mirrored_scan_gives_exactly_the_mirrored_probabilities(heart):
    """With sides that are not multiples of 32, so that the field is padded."""
    segmenter = load_scan_segmenter(str(SHIPPED / "scan_segmenter"))
    field = (heart.field[::5, :149, :187] / heart.field.max()).astype(np.float32)
    expected = segment_field(field, 1.8, segmenter)
    for axes in ((1,), (2,), (1, 2)):
        found = segment_field(np.flip(field, axes), 1.8, segmenter)
        given = np.flip(found.probabilities, [axis + 1 for axis in axes])
        np.testing.assert_array_equal(given, expected.probabilities)
        size = np.array(field.shape[1:]) - 1
        mirrored = np.where([1 in axes, 2 in axes], size - found.center, found.center)
        np.testing.assert_array_equal(mirrored, expected.center)


def test_names_that_change_over_the_beat_are_put_right_with_a_note_or_refused(heart):
    lv, rv = LABELS["LV cavity"], LABELS["RV cavity"]
    for frames, message in ((8, "made consistent"), (24, None)):
        oracle = Oracle(heart)
        late = oracle.labels[20 : 20 + frames]
        late[:] = np.array([0, rv, 2, lv, 5, 4, 6])[late]  # left is right
        found = segment_field(heart.field / heart.field.max(), 1.8, oracle)
        if message is None:
            with pytest.raises(InputError, match="changes the chambers' names over the beat"):
                require_heart(found, heart.field, PHASES, "4ch")
            continue
        (note,) = require_heart(found, heart.field, PHASES, "4ch")
        assert message in note
        labels = found.probabilities.argmax(axis=1)
        top, left = heart.corner
        inside = labels[:, top : top + 96, left : left + 96]
        assert ((inside == lv) == (heart.labels == lv)).mean() > 0.999
