"""Every term of the 3D-VAE's loss, on cines of a few pixels with numbers worked out by hand."""

import math

import pytest
import torch
from torch import nn

from cpgg_hf.training.randomness import StepRandomness
from cpgg_hf.training.stages.vae import VAEStage
from cpgg_hf.training.stages.vae_losses import beat_weights, local_strengths

LAST, STILL = 255, 0  # pixel values that a network sees as 1 and -1


class FixedError(nn.Module):
    """Reconstructs each cine with `scale` x a fixed error; every latent has the mean `scale` and the variance 4."""

    dtype, latent_size = torch.float32, (2, 1, 1, 1)

    def __init__(self, error, scale=1.0):
        super().__init__()
        self.error = torch.tensor(error)
        self.decoder = nn.Module()
        self.decoder.conv_out = nn.Module()
        self.decoder.conv_out.weight = nn.Parameter(torch.tensor(scale))

    def forward(self, cines, sample_posterior, latent_noise, noise):
        scale = self.decoder.conv_out.weight
        latents = torch.zeros(len(cines), 2, 1, 1, 1)
        posterior = type("Posterior", (), {"mean": latents + scale, "logvar": latents + math.log(4.0)})
        return type("Output", (), {"sample": cines + scale * self.error, "latent_dist": posterior})


def terms_of(cine, error, settings, scale=1.0, stage_attributes=(), step=0, **weights):
    """The loss terms of one cine (T, H, W) of pixel values and its error (T, H, W)."""
    stage = VAEStage(VAEStage.arguments_class(**settings, **{"kl_weight": 0.0, **weights}))
    for name, value in dict(stage_attributes).items():
        setattr(stage, name, value)
    batch = {"cine": torch.tensor(cine, dtype=torch.uint8)[None]}
    terms = stage.loss(FixedError(error, scale), batch, StepRandomness(0, step, 0, 1, "cpu"))
    return {name: term.detach() for name, term in terms.items()}


FLAT = [[[STILL] * 3] * 2] * 2  # two frames of 2 x 3
# The second frame of the error is four times the first.
ERROR = [[[0.0, 0.3, 0.3], [0.4, 0.4, 0.4]], [[0.0, 1.2, 1.2], [1.6, 1.6, 1.6]]]


def test_l1_is_the_mean_absolute_error_of_a_pixel(settings):
    signed = [[[-value for value in row] for row in ERROR[0]], ERROR[1]]
    terms = terms_of(FLAT, signed, settings)
    assert float(terms["l1"]) == float(terms["loss"]) == pytest.approx(9.0 / 12)
    assert terms.keys() == {"loss", "l1", "kl"}


def test_motion_is_the_change_of_the_error_from_frame_to_frame(settings):
    terms = terms_of(FLAT, ERROR, settings, motion_weight=2.0)
    assert float(terms["motion"]) == pytest.approx(5.4 / 6)
    assert float(terms["loss"]) == pytest.approx(0.75 + 2.0 * 0.9)


def test_detail_compares_edges_and_motion_in_windows(settings):
    """8 x 10 pixels are a window of 8 x 8 and one of 8 x 2; the flat cine's strengths are the root of 1e-6.

    In the first frame the last row of the first window is 0.3, the last column of the frame 0.5. Squared slopes: 0.09
    down for 8 pixels and across for one, over 64 pixels; 0.25 across for 8 of 16 pixels; four times that in the second
    frame. Squared change to the next frame: 0.09 for 8 of 64 pixels; 0.25 for 8 of 16.
    """
    first = torch.zeros(8, 10)
    first[7, :8], first[:, 9] = 0.3, 0.5
    squares = [0.01265625, 0.125, 4 * 0.01265625, 0.5]
    edges = sum(math.sqrt(square + 1e-6) for square in squares) / 4 - 1e-3
    motion = (math.sqrt(0.01125 + 1e-6) + math.sqrt(0.125 + 1e-6)) / 2 - 1e-3
    assert edges + motion == pytest.approx(0.577355, abs=2e-6)
    error = torch.stack([first, 2 * first])
    terms = terms_of([[[STILL] * 10] * 8] * 2, error.tolist(), settings, detail_weight=3.0)
    assert float(terms["detail"]) == pytest.approx(0.577355, rel=1e-5)
    assert float(terms["loss"]) == pytest.approx(float(error.mean()) + 3.0 * 0.577355, rel=1e-5)


@pytest.mark.parametrize("along_rows", [False, True])
def test_the_beat_weight_moves_l1_and_motion_to_pixels_that_change(settings, along_rows):
    """One row of six pixels, of which the first changes.

    Its standard deviation, averaged over windows of up to five pixels, is 1/3, 1/4, 1/5, 0, 0, 0 of itself. Divided by
    the mean, 47/360, that is 120/47, 90/47, 72/47, 0, 0, 0; the weights at strength 2 are (1 + 2 s) / 3, which are
    287, 227, 191, 47, 47, 47 in units of 1/141. With errors of 0.1 to 0.6: 201.9 / 846 on average in the first frame,
    and twice that in the second.
    """
    cine = torch.tensor([[[STILL] * 6], [[LAST] + [STILL] * 5]])
    error = torch.tensor([[[0.1, 0.2, -0.3, 0.4, -0.5, 0.6]], [[0.2, 0.4, -0.6, 0.8, -1.0, 1.2]]])
    if along_rows:
        cine, error = cine.mT, error.mT
    terms = terms_of(cine.tolist(), error.tolist(), settings, beat_weight=2.0, motion_weight=0.5)
    assert float(terms["l1"]) == pytest.approx(1.5 * 201.9 / 846, rel=1e-4)
    assert float(terms["motion"]) == pytest.approx(201.9 / 846, rel=1e-4)
    assert float(terms["loss"]) == pytest.approx(2.0 * 201.9 / 846, rel=1e-4)


def test_the_kl_term_is_a_mean_over_latents_with_its_weight(settings):
    terms = terms_of(FLAT, ERROR, settings, kl_weight=0.25)
    kl = 0.5 * (1 + 4 - 1 - math.log(4))
    assert float(terms["kl"]) == pytest.approx(kl)
    assert float(terms["loss"]) == pytest.approx(0.75 + 0.25 * kl)


def test_the_perceptual_term_compares_the_reconstruction_with_the_cine(settings):
    def distance(given, expected):
        return given.mean() - 10 * expected.mean()

    attributes = {"perceptual_distance": distance}
    weights = {"perceptual_weight": 0.1, "perceptual_network": "any"}
    terms = terms_of(FLAT, ERROR, settings, stage_attributes=attributes, **weights)
    assert float(terms["perceptual"]) == pytest.approx(-1 + 0.75 + 10)
    assert float(terms["loss"]) == pytest.approx(0.75 + 0.1 * 9.75)


def test_the_adversarial_term_is_scaled_to_the_other_gradients_but_that_of_the_kl(settings):
    """The gradients at the last layer are 0.75 for L1 and 7 x 0.75 for the logits, so the adaptive weight is 1/7."""
    attributes = {"discriminator": lambda cines: 7.0 * cines}
    weights = {"adversarial_weight": 0.5, "adversarial_start_step": 3, "kl_weight": 100.0}
    before = terms_of(FLAT, ERROR, settings, stage_attributes=attributes, step=1, **weights)
    assert "adversarial" not in before
    terms = terms_of(FLAT, ERROR, settings, stage_attributes=attributes, step=2, **weights)
    assert float(terms["adversarial"]) == pytest.approx(-7 * (-1 + 0.75))
    assert float(terms["effective_adversarial_weight"]) == pytest.approx(0.5 / 7, rel=1e-3)
    kl = 0.5 * (1 + 4 - 1 - math.log(4))
    assert float(terms["loss"]) == pytest.approx(0.75 + 0.5 * 0.25 + 100 * kl, rel=1e-5)
    with torch.no_grad():  # as the loop counts FLOPs
        assert "effective_adversarial_weight" not in terms_of(
            FLAT, ERROR, settings, stage_attributes=attributes, step=2, **weights
        )


def test_local_strengths_are_slopes_and_know_no_place_in_a_window():
    rows, columns = torch.meshgrid(torch.arange(25.0), torch.arange(25.0), indexing="ij")
    frames = torch.arange(3.0).view(3, 1, 1)
    ramp = (0.3 * rows + 0.4 * columns + 0.2 * frames)[None, None]
    edges, motion = local_strengths(ramp)
    assert (edges.shape, motion.shape) == ((1, 1, 3, 4, 4), (1, 1, 2, 4, 4))
    torch.testing.assert_close(edges[..., :3, :3], torch.full((1, 1, 3, 3, 3), 0.5), rtol=1e-4, atol=0)
    torch.testing.assert_close(motion, torch.full((1, 1, 2, 4, 4), 0.2), rtol=1e-4, atol=0)
    line = torch.zeros(1, 1, 2, 16, 16)
    line[..., 2] = 1.0
    torch.testing.assert_close(local_strengths(line.roll(3, -1))[0], local_strengths(line)[0])


def test_beat_weights_are_one_on_average_and_follow_the_change_over_the_beat():
    cines = torch.zeros(2, 1, 4, 20, 20)
    cines[0, :, ::2, :, 10:] = 0.3
    cines[1] = 0.7  # nothing moves: nothing to choose between
    weights = beat_weights(cines, strength=2.0)
    assert weights.shape == (2, 1, 1, 20, 20)
    torch.testing.assert_close(weights[0].mean(), torch.tensor(1.0))
    still, moving = weights[0, 0, 0, :, 3], weights[0, 0, 0, :, 16]
    torch.testing.assert_close(moving / still, torch.full((20,), 1 + 2.0 * 2.0), rtol=1e-3, atol=0)
    torch.testing.assert_close(weights[1], torch.ones(1, 1, 20, 20))
