"""The scheduler: published timesteps, diffusers' own step within its precision, generators, temperature, config."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from cpgg_hf.models.scheduling_cpgg_ddpm import CPGGDDPMScheduler


@pytest.fixture
def scheduler() -> CPGGDDPMScheduler:
    scheduler = CPGGDDPMScheduler()
    scheduler.set_timesteps(25)
    return scheduler


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_tables_are_float64(scheduler):
    assert scheduler.alphas_cumprod.dtype == torch.float64


def test_timesteps_span_the_diffusion_with_both_ends(scheduler):
    assert scheduler.timesteps[0] == 999
    assert scheduler.timesteps[-1] == 0
    assert scheduler.timesteps[:3].tolist() == [999, 957, 916]  # 999 - 41.625 k, rounded


@pytest.mark.parametrize("index", [0, 1, 12, 23, 24])
def test_step_is_that_of_diffusers(scheduler, index):
    stock = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        variance_type="learned_range",
        clip_sample=False,
        timestep_spacing="linspace",
    )
    stock.set_timesteps(25)
    timestep = stock.timesteps[index]
    output, sample = random(2, 12, 4), random(2, 6, 4, seed=1)
    steps = [s.step(output, timestep, sample, generator=torch.Generator().manual_seed(3)) for s in (scheduler, stock)]
    assert torch.allclose(steps[0].prev_sample, steps[1].prev_sample, rtol=1e-3, atol=1e-3)
    if index:  # float32 tables say nothing about x_0 at the noisiest step
        assert torch.allclose(steps[0].pred_original_sample, steps[1].pred_original_sample, rtol=1e-3, atol=1e-3)


def test_a_list_of_generators_is_one_sample_after_the_other(scheduler):
    output, sample = random(3, 12, 4), random(3, 6, 4, seed=1)
    timestep = scheduler.timesteps[10]
    together = scheduler.step(output, timestep, sample, [torch.Generator().manual_seed(i) for i in range(3)])
    for i in range(3):
        alone = scheduler.step(output[i : i + 1], timestep, sample[i : i + 1], torch.Generator().manual_seed(i))
        assert torch.equal(together.prev_sample[i : i + 1], alone.prev_sample)


def test_temperature_scales_the_noise_only(scheduler):
    output, sample, timestep = random(1, 12, 4), random(1, 6, 4, seed=1), scheduler.timesteps[10]
    noise = random(1, 6, 4, seed=2)
    cold, half, full = (
        scheduler.step(output, timestep, sample, temperature=t, variance_noise=noise).prev_sample for t in (0, 0.5, 1)
    )
    assert torch.allclose(half - cold, 0.5 * (full - cold), atol=1e-6)
    assert (full - cold).abs().min() > 0


def test_no_noise_is_added_at_the_end(scheduler):
    output, sample = random(1, 12, 4), random(1, 6, 4, seed=1)
    step = scheduler.step(output, 0, sample)
    assert torch.allclose(step.prev_sample, step.pred_original_sample, atol=1e-6)


def test_saved_and_loaded_as_a_scheduler(scheduler, tmp_path):
    scheduler.save_pretrained(tmp_path)
    loaded = CPGGDDPMScheduler.from_pretrained(tmp_path)
    assert dict(loaded.config) == dict(scheduler.config)
    loaded.set_timesteps(25)
    output, sample, noise = random(1, 12, 4), random(1, 6, 4, seed=1), random(1, 6, 4, seed=2)
    for timestep in scheduler.timesteps:
        expected, actual = (s.step(output, timestep, sample, variance_noise=noise) for s in (scheduler, loaded))
        assert torch.equal(expected.prev_sample, actual.prev_sample)


def test_another_scheduler_takes_over_the_schedule(scheduler):
    other = DDIMScheduler.from_config(scheduler.config)
    other.set_timesteps(25)
    assert other.timesteps.tolist() == scheduler.timesteps.tolist()
    assert torch.allclose(other.alphas_cumprod.double(), scheduler.alphas_cumprod, atol=1e-6)
    assert not other.config.clip_sample


@pytest.mark.parametrize(
    "options", [{"beta_schedule": "linear"}, {"prediction_type": "sample"}, {"timestep_spacing": "leading"}]
)
def test_settings_that_are_not_implemented_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        CPGGDDPMScheduler(**options)


@pytest.mark.parametrize("steps", [25, 100])
def test_clipping_bounds_the_original_and_agrees_with_diffusers(steps):
    """Where nothing is clipped the chain is the unclipped one; where it is, diffusers' own clipped mean is met."""
    torch.manual_seed(0)
    plain, wide = CPGGDDPMScheduler(), CPGGDDPMScheduler(clip_sample=True, clip_sample_range=1e6)
    narrow = CPGGDDPMScheduler(clip_sample=True, clip_sample_range=0.5)
    reference = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", timestep_spacing="linspace", clip_sample=True, clip_sample_range=0.5,
        variance_type="learned_range",
    )  # fmt: skip
    for scheduler in (plain, wide, narrow):
        scheduler.set_timesteps(steps)
    # In double precision: an original of 1e3 standard deviations cancels in the clipped form.
    sample, output, none = random(2, 6, 4).double(), random(2, 12, 4).double(), torch.zeros(2, 6, 4).double()
    for timestep in plain.timesteps[:: steps // 5].tolist():
        one, other = (s.step(output, timestep, sample, variance_noise=none) for s in (plain, wide))
        torch.testing.assert_close(other.prev_sample, one.prev_sample, rtol=1e-4, atol=1e-5)
        assert narrow.step(output, timestep, sample, variance_noise=none).pred_original_sample.abs().max() <= 0.5
    # One step of the full chain: no re-spacing, so that diffusers' tables are the same.
    for scheduler in (narrow, reference):
        scheduler.set_timesteps(1000)
    given = narrow.step(output, 600, sample, variance_noise=none)
    expected = reference.step(output, 600, sample, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(given.pred_original_sample, expected.pred_original_sample, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("number", [None, 0, 1, 1001])
def test_impossible_numbers_of_steps_are_refused(scheduler, number):
    with pytest.raises(ValueError, match="between 2 and 1000"):
        scheduler.set_timesteps(number)


def test_a_model_without_variance_is_refused(scheduler):
    with pytest.raises(ValueError, match="12 channels \(noise estimate and variance\) for a sample of 6, given 6"):
        scheduler.step(random(1, 6, 4), 0, random(1, 6, 4))
