"""The token head and its loss against independent truth: torch's distributions, diffusers' schedule."""

import math

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import betas_for_alpha_bar
from torch.distributions import Normal, kl_divergence

from cpgg_hf.models.token_diffusion import TokenDiffusionHead, cosine_betas, token_diffusion_loss


@pytest.fixture(scope="module")
def head() -> TokenDiffusionHead:
    torch.manual_seed(0)
    return TokenDiffusionHead(token_dim=6, condition_width=10, width=16, depth=2, num_train_timesteps=1000)


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "tokens": torch.randn(5, 6, generator=generator),
        "z": torch.randn(5, 10, generator=generator),
        "noise": torch.randn(5, 6, generator=generator),
    }


def test_schedule_is_the_cosine_of_diffusers():
    assert torch.allclose(torch.from_numpy(cosine_betas(1000)).float(), betas_for_alpha_bar(1000), rtol=1e-6)


def test_time_embedding_has_the_cosine_half_first(head):
    seen = []
    hook = head.time_embedding.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    head.embed_timesteps(torch.tensor([0, 7]))
    hook.remove()
    assert torch.equal(seen[0][0], torch.cat([torch.ones(128), torch.zeros(128)]))
    assert seen[0][1, 0].item() == pytest.approx(math.cos(7.0))
    assert seen[0][1, 129].item() == pytest.approx(math.sin(7.0 * 10000 ** (-1 / 128)), rel=1e-5)


def test_many_timesteps_are_embedded_as_few_are(head):
    timesteps = torch.randint(0, 1000, (3, 500), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(head.embed_timesteps(timesteps)[1, :9], head.embed_timesteps(timesteps[1, :9]), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("timestep", [1, 2, 300, 900])
def test_bound_is_the_divergence_of_the_two_reverse_steps(head, inputs, timestep):
    betas = torch.from_numpy(cosine_betas(1000))
    alphas_cumprod = (1 - betas).cumprod(0)
    current, previous, beta = alphas_cumprod[timestep], alphas_cumprod[timestep - 1], betas[timestep]
    x0, noise = inputs["tokens"].double(), inputs["noise"].double()
    x_t = current.sqrt() * x0 + (1 - current).sqrt() * noise
    timesteps = torch.full((5,), timestep)
    output = head(x_t.float(), timesteps, inputs["z"]).double()
    estimate, value = output.split(6, dim=-1)

    def mean(x0: torch.Tensor) -> torch.Tensor:
        """Mean of the posterior, equation 7 of DDPM."""
        return (previous.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - previous) * x_t) / (1 - current)

    variance = beta * (1 - previous) / (1 - current)
    predicted_variance = torch.exp((value + 1) / 2 * beta.log() + (1 - value) / 2 * variance.log())
    predicted_x0 = (x_t - (1 - current).sqrt() * estimate) / current.sqrt()
    divergence = kl_divergence(
        Normal(mean(x0), variance.sqrt()), Normal(mean(predicted_x0), predicted_variance.sqrt())
    )
    mse, vlb = token_diffusion_loss(head, timesteps=timesteps, **inputs)
    assert torch.allclose(mse.double(), (estimate - noise).square().mean(-1), rtol=1e-4)
    assert torch.allclose(vlb.double(), divergence.mean(-1) / math.log(2), rtol=1e-3)


@torch.no_grad()
def test_bound_of_the_last_step_is_the_likelihood_of_a_bin(head, inputs):
    tokens = inputs["tokens"].clone()
    tokens[0], tokens[1] = 1.5, -1.5  # beyond the ends, where the bins reach to infinity
    timesteps = torch.zeros(5, dtype=torch.long)
    alpha = torch.from_numpy(1 - cosine_betas(1000))[0]
    x_t = alpha.sqrt() * tokens.double() + (1 - alpha).sqrt() * inputs["noise"].double()
    estimate, value = head(x_t.float(), timesteps, inputs["z"]).double().split(6, dim=-1)
    mean = (x_t - (1 - alpha).sqrt() * estimate) / alpha.sqrt()

    betas = torch.from_numpy(cosine_betas(1000))
    current, previous = (1 - betas).cumprod(0)[1], alpha
    first_variance = betas[1] * (1 - previous) / (1 - current)
    log_variance = (value + 1) / 2 * betas[0].log() + (1 - value) / 2 * first_variance.log()
    normal = Normal(mean, (0.5 * log_variance).exp())
    upper = torch.where(tokens > 0.999, 1.0, normal.cdf(tokens.double() + 1 / 255))
    lower = torch.where(tokens < -0.999, 0.0, normal.cdf(tokens.double() - 1 / 255))
    expected = -(upper - lower).clamp(min=1e-12).log().mean(-1) / math.log(2)
    _, vlb = token_diffusion_loss(head, tokens, inputs["z"], inputs["noise"], timesteps)
    # the published bound takes tanh for the normal distribution function: good to a few 1e-4 of probability
    assert torch.allclose(vlb.double(), expected, rtol=0.02, atol=0.02)


def test_the_bound_teaches_the_variance_only(head, inputs):
    for timestep in (0, 400):
        head.zero_grad()
        _, vlb = token_diffusion_loss(head, timesteps=torch.full((5,), timestep), **inputs)
        vlb.sum().backward()
        gradient = head.output.linear.bias.grad
        assert not gradient[:6].any()
        assert gradient[6:].all()


def test_a_batch_of_mixed_timesteps_is_its_rows(head, inputs):
    timesteps = torch.tensor([0, 1, 0, 999, 500])
    together = token_diffusion_loss(head, timesteps=timesteps, **inputs)
    for row in range(5):
        single = token_diffusion_loss(
            head, timesteps=timesteps[row : row + 1], **{name: value[row : row + 1] for name, value in inputs.items()}
        )
        for ours, alone in zip(together, single, strict=True):
            assert ours[row].item() == pytest.approx(alone.item(), rel=1e-4)


def test_loss_is_computed_in_float32_under_autocast(head, inputs):
    with torch.autocast("cpu", torch.bfloat16):
        mse, vlb = token_diffusion_loss(head, timesteps=torch.tensor([0, 10, 400, 700, 999]), **inputs)
    assert mse.dtype == vlb.dtype == torch.float32
    assert mse.isfinite().all()
    assert vlb.isfinite().all()


def test_tables_first_made_under_inference_mode_serve_training(inputs):
    head = TokenDiffusionHead(token_dim=6, condition_width=10, width=16, depth=1, num_train_timesteps=77)
    timesteps = torch.full((5,), 33)
    with torch.inference_mode():
        token_diffusion_loss(head, timesteps=timesteps, **inputs)
    mse, vlb = token_diffusion_loss(head, timesteps=timesteps, **inputs)
    (mse + vlb).sum().backward()
    assert head.output.linear.weight.grad.isfinite().all()
