"""The adversarial term: its losses and its weight by hand, and runs that are resumed with it."""

import pytest
import torch

from cpgg_hf.training.discriminator import PatchDiscriminator, adaptive_weight, discriminator_loss
from cpgg_hf.training.stages.vae import VAEStage

from .conftest import TINY_VAE, assert_same_run, log_of, run, weights
from .test_processes import assert_same_checkpoint

ADVERSARIAL = {
    "adversarial_weight": 0.5, "adversarial_start_step": 3, "discriminator_channels": 4, "discriminator_layers": 1
}  # fmt: skip


def test_a_patch_of_the_published_depth_spans_70_pixels():
    """Measured: the pixels of a frame whose gradient one logit has; group norms, which see all, are left out."""
    discriminator = PatchDiscriminator(channels=4, num_layers=3)
    layers = [layer for layer in discriminator.layers if not isinstance(layer, torch.nn.GroupNorm)]
    cine = torch.zeros(1, 1, 8, 128, 128, requires_grad=True)
    logits = torch.nn.Sequential(*layers)(cine + 1.0)
    assert logits.shape == discriminator(cine).shape == (1, 1, 1, 14, 14)
    logits[0, 0, 0, 7, 7].backward()
    rows = cine.grad[0, 0].abs().sum((0, 2)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 == 70


def test_the_logits_of_a_cine_depend_on_no_other():
    torch.manual_seed(0)
    discriminator, cines = PatchDiscriminator(channels=8, num_layers=1), torch.randn(3, 1, 4, 16, 16)
    torch.testing.assert_close(discriminator(cines)[1:2], discriminator(cines[1:2]))


def test_the_hinge_asks_for_a_margin_of_one_and_no_more():
    real, generated = torch.tensor([3.0, 0.25]), torch.tensor([-2.0, 0.5])
    terms = discriminator_loss(lambda logits: logits, real, generated)
    assert float(terms["loss"]) == pytest.approx(0.5 * (0.75 / 2 + 1.5 / 2))
    assert float(terms["real"]) == pytest.approx(1.625)
    assert float(terms["generated"]) == pytest.approx(-0.75)


def test_a_discriminator_learns_to_tell_blurred_cines():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(channels=8, num_layers=1)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-2, betas=(0.5, 0.9))
    for _ in range(30):
        cines = torch.randn(2, 1, 4, 16, 16)
        blurred = torch.nn.functional.avg_pool3d(cines, 3, stride=1, padding=1)
        terms = discriminator_loss(discriminator, cines, blurred)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
    assert terms["real"] > 0 > terms["generated"]


def test_the_adaptive_weight_is_the_ratio_of_the_gradients_norms():
    layer = torch.tensor([1.0, 2.0], requires_grad=True)
    reconstruction = (layer * torch.tensor([3.0, 4.0])).sum()  # gradient of norm 5
    adversarial = (layer * torch.tensor([0.0, 2.0])).sum()  # of norm 2
    weight = adaptive_weight(reconstruction, adversarial, layer, 2)
    assert float(weight) == pytest.approx(5 / (2 + 1e-4))
    assert not weight.requires_grad
    assert layer.grad is None
    assert float(adaptive_weight(reconstruction, 1e-9 * adversarial, layer, 2)) == pytest.approx(1e4)


def test_both_terms_pull_the_last_layer_in_the_ratio_of_their_weight(settings, tmp_path):
    """With weight 0.5 the adversarial gradient is half as long as that of L1, however large a discriminator shouts."""
    pulls = {}

    class WatchedStage(VAEStage):
        def _adversarial_terms(self, network, sample, reconstruction_loss):
            with torch.no_grad():
                self.discriminator.layers[-1].weight.mul_(100.0)
            terms = super()._adversarial_terms(network, sample, reconstruction_loss)
            if torch.is_grad_enabled():
                layer = network.decoder.conv_out.weight
                total, alone = (
                    torch.autograd.grad(loss, layer, retain_graph=True)[0]
                    for loss in (terms["loss"], reconstruction_loss)
                )
                pulls["ratio"] = float((total - alone).norm() / alone.norm())
            return terms

    run(WatchedStage, TINY_VAE, {**settings, **ADVERSARIAL}, max_train_steps=3)
    assert pulls["ratio"] == pytest.approx(0.5, rel=1e-2)


def test_a_run_resumed_with_the_term_equals_an_undisturbed_one(settings, tmp_path):
    """Interrupted before the discriminator exists to the loss, and after; discriminator and optimizer are compared."""
    settings = {**settings, **ADVERSARIAL}
    run(VAEStage, TINY_VAE, settings, output_dir=str(tmp_path / "undisturbed"))
    for step in (1, 2, 3, 4):
        assert run(VAEStage, TINY_VAE, settings, resume_from_checkpoint="latest", max_seconds=0.0).step == step
    run(VAEStage, TINY_VAE, settings, resume_from_checkpoint="latest")
    assert_same_run(tmp_path / "undisturbed", tmp_path / "run")
    assert_same_checkpoint(*(tmp_path / part / "checkpoint-0000006" for part in ("undisturbed", "run")))
    first, last = (tmp_path / "undisturbed" / f"checkpoint-{step:07d}" / "model_1.safetensors" for step in (3, 6))
    assert first.read_bytes() != last.read_bytes(), "the discriminator has not learned"


def test_until_its_first_step_a_run_is_what_it_is_without_the_term(settings, tmp_path):
    settings = {**settings, "logging_steps": 1}
    run(VAEStage, TINY_VAE, settings, output_dir=str(tmp_path / "without"), max_train_steps=2)
    run(VAEStage, TINY_VAE, {**settings, **ADVERSARIAL}, max_train_steps=4)
    without, log = (log_of(tmp_path / part) for part in ("without", "run"))
    losses = [[line["loss"] for line in lines if "loss" in line] for lines in (without, log)]
    assert losses[1][:2] == losses[0]
    assert [line["step"] for line in log if "adversarial" in line] == [3, 4]
    assert [line["step"] for line in log if "discriminator_loss" in line] == [3, 4]
    assert weights(tmp_path / "run" / "model").keys() == weights(tmp_path / "without" / "model").keys()
