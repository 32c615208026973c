"""The perceptual term: distances in a segmenter's features, and what is said where LPIPS has no weights."""

import pytest
import torch
from torch import nn

from cpgg_hf.errors import TrainingError
from cpgg_hf.segmentation.segmenter import CineSegmenter
from cpgg_hf.training.perceptual import LPIPSDistance, load_perceptual_distance
from cpgg_hf.training.stages.vae import VAEStage

from .conftest import TINY_VAE, log_of, run, weights


@pytest.fixture
def segmenter(tmp_path):
    torch.manual_seed(0)
    network = CineSegmenter(context_frames=(-1, 0, 1), block_out_channels=(4, 8), norm_num_groups=2)
    network.save_pretrained(tmp_path / "segmenter")
    return tmp_path / "segmenter"


def test_distance_is_that_of_unit_features_summed_over_levels(segmenter):
    """By hand for one frame of a cine that is still: its context is itself three times."""
    torch.manual_seed(1)
    given, expected = torch.rand(2, 1, 1, 1, 16, 16).expand(-1, -1, -1, 3, -1, -1) * 2 - 1
    network = CineSegmenter.from_pretrained(segmenter)
    by_hand = 0.0
    with torch.no_grad():
        pairs = zip(*(network.features(cine[:, 0]) for cine in (given, expected)), strict=True)
        for one, other in pairs:
            cosine = nn.functional.cosine_similarity(one, other, dim=1)
            by_hand += float((2 - 2 * cosine).mean())  # the squared distance of unit vectors
        distance = load_perceptual_distance(str(segmenter))
        assert float(distance(given, expected)) == pytest.approx(by_hand, rel=1e-4)
        assert float(distance(given, given)) == 0.0


def test_the_term_teaches_the_network_and_is_no_part_of_it(segmenter, settings, tmp_path):
    term = {"perceptual_network": str(segmenter), "perceptual_weight": 0.1}
    run(VAEStage, TINY_VAE, settings, output_dir=str(tmp_path / "without"), max_train_steps=1, logging_steps=1)
    run(VAEStage, TINY_VAE, {**settings, **term}, max_train_steps=1, logging_steps=1)
    (without,), (line,) = ([line for line in log_of(tmp_path / part) if "l1" in line] for part in ("without", "run"))
    assert line["loss"] == pytest.approx(without["loss"] + 0.1 * line["perceptual"], rel=1e-5)
    assert line["grad_norm"] != without["grad_norm"]
    assert weights(tmp_path / "run" / "model").keys() == weights(tmp_path / "without" / "model").keys()


def test_lpips_sees_grey_frames_in_three_colours():
    given, expected = torch.zeros(2, 1, 3, 8, 8), torch.ones(2, 1, 3, 8, 8)

    def network(one, other):
        assert one.shape == other.shape == (6, 3, 8, 8)
        return (one - other).abs().mean((1, 2, 3), keepdim=True)

    assert float(LPIPSDistance(network)(given, expected)) == 1.0


def test_lpips_without_torchvision_is_one_sentence(monkeypatch):
    monkeypatch.setattr("torchmetrics.image.lpip._TORCHVISION_AVAILABLE", False)
    with pytest.raises(TrainingError, match="lpips needs torchvision, which is not installed; install the build"):
        load_perceptual_distance("lpips")


def test_weight_and_network_belong_together(settings):
    with pytest.raises(TrainingError, match=r"perceptual_weight is 0.1 and perceptual_network is None"):
        run(VAEStage, TINY_VAE, settings, perceptual_weight=0.1)
