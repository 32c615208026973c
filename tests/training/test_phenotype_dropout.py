"""Phenotypes are hidden one by one (missing) and all at once (guidance) in training; what the MAR makes of it."""

import pytest
import torch

from cpgg_hf.models.configuration_cpgg_mar import CPGGMARConfig
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel
from cpgg_hf.models.scheduling_cpgg_ddpm import scheduler_of_head
from cpgg_hf.training.randomness import StepRandomness
from cpgg_hf.training.stages.mar import MARArguments, MARStage, hide_phenotypes

MEAN, SD = (100.0, 50.0), (15.0, 5.0)
WEIGHTS = (0.8, 0.6)  # their squares sum to 1, so that the latent has unit variance


@pytest.fixture
def stage():
    arguments = MARArguments(output_dir="o", data="d", vae="v", max_train_steps=1, missing_probability=0.5)
    stage = MARStage(arguments)
    stage.latents_mean, stage.latents_std = torch.zeros(()), torch.ones(())
    return stage


@pytest.fixture
def network():
    """One token of one number, two phenotypes."""
    torch.manual_seed(0)
    return CPGGMARModel(
        CPGGMARConfig(
            num_phenotypes=2, phenotype_mean=list(MEAN), phenotype_sd=list(SD), latent_channels=1,
            latent_size=(1, 1, 1), patch_size=(1, 1, 1), encoder_width=32, encoder_depth=1, decoder_width=32,
            decoder_depth=1, num_attention_heads=2, num_condition_tokens=1, condition_projection="mlp",
            condition_dropout=0.2, dropout=0.0, head_type="flow_matching", head_width=32, head_depth=2,
        )
    )  # fmt: skip


def batch_of(standardised):
    """Latents that are the weighted sum of both phenotypes."""
    latents = (standardised @ torch.tensor(WEIGHTS)).view(-1, 1, 1, 1, 1)
    phenotypes = torch.tensor(MEAN) + torch.tensor(SD) * standardised
    return {"mean": latents, "logvar": torch.full_like(latents, -20.0), "phenotypes": phenotypes}


def test_both_dropouts_act_only_in_training_and_independently(stage, network, monkeypatch):
    seen = {}
    forward = CPGGMARModel.forward
    monkeypatch.setattr(CPGGMARModel, "forward", lambda self, **given: (seen.update(given), forward(self, **given))[1])
    batch = batch_of(torch.randn(4000, 2))
    batch["phenotypes"][::2, 1] = float("nan")  # missing in the data
    stage.loss(network.train(), batch, StepRandomness(0, 0, 0, 4000, "cpu"))
    hidden, dropped = seen["phenotypes"].isnan(), seen["drop_condition"]
    assert dropped.float().mean() == pytest.approx(0.2, abs=0.03)
    # Half of the rows lose a share that is uniform: a phenotype goes with probability 1/4, both with 1/6.
    assert hidden[:, 0].float().mean() == pytest.approx(1 / 4, abs=0.03)
    assert hidden[1::2].all(dim=1).float().mean() == pytest.approx(1 / 6, abs=0.03)
    assert hidden[::2, 1].all()
    assert hidden[dropped, 0].float().mean() == pytest.approx(1 / 4, abs=0.05)

    stage.loss(network.eval(), batch, StepRandomness(0, 0, 0, 4000, "cpu"))
    assert torch.equal(seen["phenotypes"].isnan(), batch["phenotypes"].isnan())
    assert seen["drop_condition"] is None


def test_missing_phenotypes_vary_as_in_the_population(network):
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 450)
    subjects = batch_of(torch.randn(450 * 128, 2))
    hidden = hide_phenotypes(subjects["phenotypes"], 0.5, StepRandomness(0, 0, 0, 450 * 128, "cpu"))
    mask = torch.ones(128, 1)
    for latents, phenotypes in zip(subjects["mean"].split(128), hidden.split(128), strict=True):
        network(latents, phenotypes, mask).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()

    def draw(first, second, guidance_scale=1.0):
        told = torch.tensor([[MEAN[0] + SD[0] * first, MEAN[1] + SD[1] * second]]).repeat(1000, 1)
        scheduler = scheduler_of_head("flow_matching")
        drawn = network.eval().generate_latents(told, scheduler, 1, 25, guidance_scale)
        return drawn.mean().item(), drawn.std().item()

    missing = float("nan")
    for told, mean, sd in (
        ((1.5, -1.0), 0.8 * 1.5 - 0.6, 0.0),
        ((1.5, missing), 0.8 * 1.5, 0.6),
        ((missing, -1.0), -0.6, 0.8),
        ((missing, missing), 0.0, 1.0),
        ((1.5, -1.0, 0.0), 0.0, 1.0),  # the whole condition dropped
    ):
        assert draw(*told) == pytest.approx((mean, sd), abs=0.2), told
