"""Iterative decoding: every token once, each sample from its own generator, guidance and schedulers as promised."""

import itertools
import math

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)

from cpgg_hf.models.guidance import Guidance
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel, decoding_schedule
from cpgg_hf.models.scheduling_cpgg_ddpm import CPGGDDPMScheduler

from .mar_fixtures import phenotypes, tiny_model


@pytest.fixture(scope="module")
def model() -> CPGGMARModel:
    return tiny_model()


@pytest.fixture
def scheduler() -> CPGGDDPMScheduler:
    return CPGGDDPMScheduler()


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def generate(model, scheduler, rows, seeds, **options) -> torch.Tensor:
    options = {"num_decoding_steps": 4, "num_inference_steps": 5} | options
    return model.generate_latents(rows, scheduler, generators=generators(*seeds), **options)


def test_schedule_is_the_published_cosine():
    masked = [math.floor(180 * math.cos(math.pi / 2 * (step + 1) / 16)) for step in range(15)]
    remaining = [180, *masked, 0]
    assert decoding_schedule(180, 16) == [a - b for a, b in itertools.pairwise(remaining)]


@pytest.mark.parametrize("num_tokens", [1, 7, 36, 180])
def test_every_schedule_draws_all_tokens_and_at_least_one_per_step(num_tokens):
    for num_steps in range(1, num_tokens + 1):
        counts = decoding_schedule(num_tokens, num_steps)
        assert len(counts) == num_steps
        assert min(counts) >= 1
        assert sum(counts) == num_tokens
    assert decoding_schedule(num_tokens, num_tokens) == [1] * num_tokens


def test_more_steps_than_tokens_are_refused(model, scheduler):
    with pytest.raises(ValueError, match=r"between 1 and 36 \(one per token\), given 37"):
        generate(model, scheduler, phenotypes(1), [0], num_decoding_steps=37)


def test_one_token_per_step_visits_every_token_once(model, scheduler):
    drawn = []

    def record(step: int, latents: torch.Tensor) -> None:
        drawn.append(model.patchify(latents).abs().sum(-1) > 0)

    generate(model, scheduler, phenotypes(2), [0, 1], num_decoding_steps=36, num_inference_steps=2, callback=record)
    counts = torch.stack(drawn).sum(-1)
    assert torch.equal(counts, torch.arange(1, 37).unsqueeze(1).expand(-1, 2))
    orders = torch.stack(drawn).long().argmax(0)
    assert not torch.equal(orders[0], orders[1])


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_a_sample_is_the_same_wherever_and_beside_whatever_it_stands(model, scheduler, guidance_scale):
    rows = phenotypes(4)
    alone = generate(model, scheduler, rows, [10, 11, 12, 13], guidance_scale=guidance_scale)
    others = torch.cat([rows[2:3], phenotypes(2, seed=9), rows[3:]])
    beside = generate(model, scheduler, others, [12, 5, 6, 13], guidance_scale=guidance_scale)
    assert torch.equal(alone[2], beside[0])
    assert torch.equal(alone[3], beside[3])
    assert not torch.equal(alone[1], beside[1])


def test_given_noise_is_where_the_diffusion_starts(model, scheduler):
    noise = torch.randn(1, 2, 5, 12, 12, generator=torch.Generator().manual_seed(3))
    first = generate(model, scheduler, phenotypes(1), [0], latents=noise)
    assert torch.equal(first, generate(model, scheduler, phenotypes(1), [0], latents=noise))
    assert not torch.equal(first, generate(model, scheduler, phenotypes(1), [0], latents=-noise))


@torch.no_grad()
@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 2.5])
def test_decoding_is_the_plain_algorithm(model, guidance_scale):
    """Against a decoder written the slow way: whole passes, one diffusion step at a time, one DDIM chain a token."""
    rows, noise = phenotypes(1), torch.randn(1, 2, 5, 12, 12, generator=torch.Generator().manual_seed(3))
    scheduler = DDIMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False, timestep_spacing="leading")
    ours = generate(model, scheduler, rows, [0], latents=noise, guidance_scale=guidance_scale)

    order = torch.randperm(36, generator=torch.Generator().manual_seed(0))
    tokens, mask, start = torch.zeros(1, 36, 40), torch.ones(1, 36), model.patchify(noise)
    everything = torch.arange(36).unsqueeze(0)
    for remaining in (33, 25, 13, 0):
        vectors = [
            model(tokens, rows, mask, everything, drop_condition=torch.tensor([dropped]), return_loss=False).z
            for dropped in (False, True)
        ]
        for position in order[remaining : int(mask.sum())].tolist():
            scheduler.set_timesteps(5)
            x = start[:, position]
            for t in scheduler.timesteps:
                with_condition, without = (model.diffusion_head(x, t[None], z[:, position])[:, :40] for z in vectors)
                x = scheduler.step(without + guidance_scale * (with_condition - without), t, x).prev_sample
            tokens[:, position] = x
        mask[:, order[remaining:]] = 0
    assert (model.patchify(ours) - tokens).norm() < 1e-5 * tokens.norm()


def test_unconditional_decoding_ignores_the_phenotypes(model, scheduler):
    one, other = (generate(model, scheduler, phenotypes(1, seed), [0], guidance_scale=0.0) for seed in (1, 2))
    assert torch.equal(one, other)
    one, other = (generate(model, scheduler, phenotypes(1, seed), [0], guidance_scale=1.0) for seed in (1, 2))
    assert not torch.allclose(one, other)


@pytest.mark.parametrize(("guidance_scale", "passes"), [(0.0, 1), (1.0, 1), (1.5, 2)])
def test_guidance_only_costs_a_second_pass(model, scheduler, guidance_scale, passes):
    batch_sizes = []
    hook = model.register_forward_pre_hook(lambda module, args: batch_sizes.append(len(args[0])))
    generate(model, scheduler, phenotypes(3), [0, 1, 2], guidance_scale=guidance_scale)
    hook.remove()
    assert batch_sizes == [3 * passes] * 4


def test_temperature_scales_the_added_noise(model, scheduler):
    noise = torch.randn(1, 2, 5, 12, 12, generator=torch.Generator().manual_seed(3))
    cold = [
        generate(model, scheduler, phenotypes(1), [0], latents=noise, temperature=t, num_decoding_steps=1)
        for t in (0.0, 1e-4, 1.0)
    ]
    assert torch.allclose(cold[0], cold[1], atol=1e-2)
    assert not torch.allclose(cold[0], cold[2], atol=1e-2)


@pytest.mark.parametrize("other", [DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler])
def test_other_schedulers_get_the_noise_estimate(model, scheduler, other):
    config = {**scheduler.config, "timestep_spacing": "leading"}
    latents = generate(model, other.from_config(config), phenotypes(2), [0, 1], guidance_scale=2.0)
    assert latents.shape == (2, 2, 5, 12, 12)
    assert latents.isfinite().all()
    with pytest.raises(ValueError, match="has no temperature"):
        generate(model, other.from_config(config), phenotypes(2), [0, 1], temperature=0.9)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            EulerDiscreteScheduler(),
            "has another noise schedule than the MAR's head was trained on, 'squared",
        ),
        (DDIMScheduler(num_train_timesteps=500), "has 500 training timesteps, the MAR's head 1000"),
        (EDMEulerScheduler(), "has another noise schedule"),
        (DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"), "estimates the noise"),
        (
            DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range"),
            "expects a learned variance",
        ),
        (DDIMScheduler(beta_schedule="squaredcos_cap_v2"), r"clips latents at 1\.0 standard deviations"),
        (EulerDiscreteScheduler.from_config(CPGGDDPMScheduler().config), "starts at timestep 999, where only noise"),
        (HeunDiscreteScheduler.from_config(CPGGDDPMScheduler(clip_sample=True).config), "starts at timestep 999"),
    ],
)
def test_a_scheduler_that_would_give_noise_is_refused(model, other, message):
    with pytest.raises(ValueError, match=message) as refused:
        generate(model, other, phenotypes(1), [0])
    assert "use " in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_callback_may_replace_the_latents(model, scheduler):
    latents = generate(
        model, scheduler, phenotypes(1), [0], callback=lambda step, latents: {"latents": torch.ones_like(latents)}
    )
    assert torch.equal(latents, torch.ones_like(latents))


@pytest.mark.parametrize(("first", "second"), [(2.0, 0.0), (1.0, 3.0)])
def test_a_callback_may_change_the_guidance_of_the_remaining_steps(model, scheduler, first, second):
    class Switched(Guidance):
        def scale(self, step):
            return first if step.decoding_step < 2 else second

    changed = generate(
        model, scheduler, phenotypes(2), [0, 1], guidance_scale=first,
        callback=lambda step, _: {"guidance_scale": second} if step == 1 else None,
    )  # fmt: skip
    assert torch.equal(changed, generate(model, scheduler, phenotypes(2), [0, 1], guidance_scale=Switched()))
    for constant in (first, second):
        assert not torch.equal(changed, generate(model, scheduler, phenotypes(2), [0, 1], guidance_scale=constant))


def test_works_in_half_precision(model, scheduler):
    half = tiny_model().to(torch.bfloat16)
    latents = generate(half, scheduler, phenotypes(1), [0], guidance_scale=1.5)
    assert latents.dtype == torch.float32
    assert latents.isfinite().all()


def test_generators_must_be_one_per_sample(model, scheduler):
    with pytest.raises(ValueError, match="given 2 for 3 samples"):
        generate(model, scheduler, phenotypes(3), [0, 1])
