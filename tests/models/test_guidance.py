"""Guidance rules: what a rule decides, and that decoding follows it."""

import numpy as np
import pytest
import torch

from cpgg_hf.models.guidance import ConstantGuidance, Guidance, GuidanceStep, as_guidance
from cpgg_hf.models.scheduling_cpgg_ddpm import CPGGDDPMScheduler
from cpgg_hf.models.token_diffusion import sample_tokens

from .mar_fixtures import phenotypes, tiny_model


class Interval(Guidance):
    """Guides only in a range of diffusion steps, as in arXiv 2404.07724."""

    def __init__(self, first, last):
        self.first, self.last = first, last

    def scale(self, step):
        return 3.0 if self.first <= step.diffusion_step <= self.last else 1.0


class Recorder(ConstantGuidance):
    """Keeps the steps at which estimates were combined."""

    def combine(self, conditional, unconditional, step):
        steps.append(step)
        return super().combine(conditional, unconditional, step)


steps: list[GuidanceStep] = []


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def draw(model, guidance, seed=0):
    return model.generate_latents(
        phenotypes(2, seed), CPGGDDPMScheduler(), 3, 4, guidance,
        generators=[torch.Generator().manual_seed(index) for index in range(2)],
    )  # fmt: skip


def test_a_number_is_the_constant_rule_and_an_object_stays():
    assert as_guidance(1.5) == ConstantGuidance(1.5)
    rule = Interval(0, 1)
    assert as_guidance(rule) is rule


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "3", None])
def test_other_values_are_refused(value):
    with pytest.raises(ValueError, match=r"guidance_scale must be .*, given .*\.$"):
        as_guidance(value)


@pytest.mark.parametrize(("scale", "passes"), [(0.0, (False, True)), (1.0, (True, False)), (3.0, (True, True))])
def test_a_constant_rule_needs_only_the_passes_that_it_uses(scale, passes):
    assert ConstantGuidance(scale).passes([GuidanceStep(0, 1, index, 2) for index in range(2)]) == passes


def test_a_mixed_rule_needs_both_passes():
    assert Interval(0, 0).passes([GuidanceStep(0, 1, index, 2) for index in range(2)]) == (True, True)


def test_estimates_are_extrapolated_from_unconditional_to_conditional():
    conditional, unconditional = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0])
    combined = ConstantGuidance(3.0).combine(conditional, unconditional, GuidanceStep(0, 1, 0, 1))
    torch.testing.assert_close(combined, torch.tensor([3.0, -2.0]))


def test_decoding_passes_every_step_once_and_in_order(model):
    steps.clear()
    draw(model, Recorder(2.0))
    assert steps == [GuidanceStep(decoding, 3, diffusion, 4) for decoding in range(3) for diffusion in range(4)]


def test_an_interval_guides_only_within(model):
    constant, none = draw(model, 3.0), draw(model, 1.0)
    assert torch.equal(draw(model, Interval(0, 3)), constant)
    assert torch.equal(draw(model, Interval(9, 9)), none)
    within = draw(model, Interval(1, 2))
    assert not torch.equal(within, constant)
    assert not torch.equal(within, none)


@pytest.mark.parametrize("scale", [-1.0, np.nan, np.inf])
def test_a_rule_with_an_impossible_scale_is_refused(model, scale):
    with pytest.raises(ValueError, match="a guidance rule's scale must be"):
        draw(model, ConstantGuidance(scale))


def test_a_rule_may_compare_with_a_weaker_condition(model):
    class Weaker(ConstantGuidance):
        def unconditional(self, rows):
            return rows.where(torch.arange(rows.shape[1]) > 0, torch.nan), torch.zeros(len(rows), dtype=torch.bool)

    class Same(ConstantGuidance):
        def unconditional(self, rows):
            return rows, torch.zeros(len(rows), dtype=torch.bool)

    assert not torch.equal(draw(model, Weaker(3.0)), draw(model, 3.0))
    same, none, guided = (draw(model, rule) for rule in (Same(3.0), 1.0, 3.0))
    assert (same - none).norm() < 1e-2 * (guided - none).norm()


@torch.no_grad()
def test_the_variance_is_the_conditional_one(model):
    outputs = []

    class Recording(CPGGDDPMScheduler):
        def step(self, model_output, timestep, sample, *, temperature, variance_noise, return_dict):
            outputs.append(model_output)
            return (sample,)

    scheduler = Recording()
    scheduler.set_timesteps(timesteps=[500])
    head, dim = model.diffusion_head, model.config.token_dim
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 1, model.config.decoder_width, generator=generator)
    noise = torch.randn(1, 1, dim, generator=generator)
    sample_tokens(head, z, noise, scheduler, [generator], guidance_scale=3.0)
    conditional, unconditional = head(noise.expand(2, -1, -1), torch.tensor(500), z).chunk(2)
    expected = unconditional[..., :dim] + 3.0 * (conditional[..., :dim] - unconditional[..., :dim])
    torch.testing.assert_close(outputs[0].transpose(1, 2)[..., :dim], expected)
    torch.testing.assert_close(outputs[0].transpose(1, 2)[..., dim:], conditional[..., dim:])
    assert not torch.allclose(conditional[..., dim:], unconditional[..., dim:])
