"""Diffusion of single tokens: the head of CPGG's transformer (arXiv 2505.03426, section 2.2), its losses, sampling.

The head is the AdaLN MLP of MAR (arXiv 2406.11838, appendix) with the loss of improved diffusion (arXiv 2102.09672):
mean squared error of the noise plus the variational bound that trains the variance. The alternative is flow matching
on straight paths (arXiv 2210.02747), where the same head estimates a velocity and no variance.
"""

import inspect
import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import nn

from cpgg_hf.models.guidance import Guidance, GuidanceStep, as_guidance

_TIME_CHANNELS = 256
_LAYER_NORM_EPS = 1e-6
_BIN_HALF_WIDTH = 1.0 / 255.0
_MODULATION_ELEMENTS = 2**24  # modulations are precomputed for as many steps as fit in this many numbers


# Shift and scale of a layer's normalised input, and the gate of a block's residual, each (..., width).
Modulation: TypeAlias = tuple[torch.Tensor, ...]


class AdaLNBlock(nn.Module):
    """Residual MLP whose normalised input is modulated and whose output is gated by timestep and condition."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=_LAYER_NORM_EPS)
        self.modulation = nn.Linear(width, 3 * width)
        self.linear_in = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)

    def modulate(self, embedding: torch.Tensor) -> Modulation:
        """Turns the activated embedding (..., width) of timestep and condition into shift, scale and gate."""
        shift, scale, gate = self.modulation(embedding).chunk(3, dim=-1)
        return shift, 1.0 + scale, gate

    def forward(
        self, hidden_states: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor, gate: torch.Tensor
    ) -> torch.Tensor:
        update = torch.addcmul(shift, self.norm(hidden_states), scale)
        update = self.linear_out(F.silu(self.linear_in(update)))
        return torch.addcmul(hidden_states, gate, update)


class AdaLNOutput(nn.Module):
    """Last layer: parameter-free normalisation, modulation, linear."""

    def __init__(self, width: int, out_channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=_LAYER_NORM_EPS, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.linear = nn.Linear(width, out_channels)

    def modulate(self, embedding: torch.Tensor) -> Modulation:
        """Turns the activated embedding (..., width) of timestep and condition into shift and scale."""
        shift, scale = self.modulation(embedding).chunk(2, dim=-1)
        return shift, 1.0 + scale

    def forward(self, hidden_states: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.addcmul(shift, self.norm(hidden_states), scale))


class TokenDiffusionHead(nn.Module):
    """Estimates the noise in a token and the variance of the reverse step, or a flow's velocity, from the vector `z`.

    Args:
        token_dim: size of a token, D.
        condition_width: width of `z`.
        width: width of the head.
        depth: number of residual blocks.
        num_train_timesteps: number of steps of the diffusion, or the timestep of pure noise of a flow.
        head_type: `"diffusion"` or `"flow_matching"`.
    """

    def __init__(
        self,
        token_dim: int,
        condition_width: int,
        width: int,
        depth: int,
        num_train_timesteps: int,
        head_type: str = "diffusion",
    ):
        super().__init__()
        self.head_type = head_type
        self.token_dim = token_dim
        self.width = width
        self.num_train_timesteps = num_train_timesteps
        self.time_embedding = nn.Sequential(nn.Linear(_TIME_CHANNELS, width), nn.SiLU(), nn.Linear(width, width))
        self.condition_projection = nn.Linear(condition_width, width)
        self.input_projection = nn.Linear(token_dim, width)
        self.blocks = nn.ModuleList(AdaLNBlock(width) for _ in range(depth))
        self.output = AdaLNOutput(width, 2 * token_dim if head_type == "diffusion" else token_dim)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.input_projection.weight.dtype

    def embed_timesteps(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Embeds timesteps (...) in [0, num_train_timesteps], integers or not, as (..., width).

        If there are more integers than diffusion steps, a table of all steps is computed and indexed.
        """
        if timesteps.numel() > self.num_train_timesteps and not timesteps.is_floating_point():
            all_timesteps = torch.arange(self.num_train_timesteps, device=timesteps.device)
            return F.embedding(timesteps, self.embed_timesteps(all_timesteps))
        half, dtype = _TIME_CHANNELS // 2, torch.promote_types(self.dtype, torch.float32)
        frequencies = torch.exp(torch.arange(half, device=timesteps.device, dtype=dtype) * (-math.log(10000.0) / half))
        angles = timesteps.to(dtype).unsqueeze(-1) * frequencies
        return self.time_embedding(torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.dtype))

    def modulations(self, embedding: torch.Tensor) -> list[Modulation]:
        """Computes each layer's modulation from the sum (..., width) of embedded timestep and projected condition."""
        activated = F.silu(embedding)
        return [layer.modulate(activated) for layer in (*self.blocks, self.output)]

    def denoise(self, hidden_states: torch.Tensor, modulations: Sequence[Modulation]) -> torch.Tensor:
        """Runs the blocks on the projected noisy tokens (..., width) and returns the same as `forward`."""
        for block, modulation in zip(self.blocks, modulations[:-1], strict=True):
            hidden_states = block(hidden_states, *modulation)
        return self.output(hidden_states, *modulations[-1])

    def forward(self, noisy_tokens: torch.Tensor, timesteps: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Estimates noise and variance, or velocity.

        Args:
            noisy_tokens: (..., D).
            timesteps: (...), integers in [0, num_train_timesteps); for a flow numbers in [0, num_train_timesteps].
            z: (..., condition_width), or any shape that broadcasts to it.

        Returns:
            Diffusion: (..., 2 D), the noise, then the position of the log-variance between its bounds (-1 to 1).
            Flow matching: (..., D), the velocity from token to noise.
        """
        embedding = self.embed_timesteps(timesteps) + self.condition_projection(z.to(self.dtype))
        return self.denoise(self.input_projection(noisy_tokens.to(self.dtype)), self.modulations(embedding))


@cache
def cosine_betas(num_train_timesteps: int) -> np.ndarray:
    """The cosine schedule of improved diffusion, equation 17: (num_train_timesteps,) float64, at most 0.999."""
    ends = np.arange(num_train_timesteps + 1) / num_train_timesteps
    alphas_cumprod = np.cos((ends + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1.0 - alphas_cumprod[1:] / alphas_cumprod[:-1], 0.999)


class _LossTables(NamedTuple):
    """Per timestep, float32: scales of signal and noise, and terms of the KL of posterior and model."""

    signal: torch.Tensor
    noise: torch.Tensor
    minimum_log_variance: torch.Tensor
    log_variance_range: torch.Tensor
    mean_weight: torch.Tensor


@cache
def _loss_tables(num_train_timesteps: int, device: torch.device) -> _LossTables:
    betas = cosine_betas(num_train_timesteps)
    alphas_cumprod = np.cumprod(1.0 - betas)
    previous = np.append(1.0, alphas_cumprod[:-1])
    variance = betas * (1.0 - previous) / (1.0 - alphas_cumprod)
    variance[0] = variance[1]
    # (coefficient of the noise error in the posterior mean)^2 / variance, simplified; t = 0 has another loss
    mean_weight = np.append(0.0, betas[1:] / ((1.0 - betas[1:]) * (1.0 - previous[1:])))
    tables = (
        np.sqrt(alphas_cumprod),
        np.sqrt(1.0 - alphas_cumprod),
        np.log(variance),
        np.log(betas) - np.log(variance),
        mean_weight,
    )
    # The cache may be filled under inference_mode, but its tensors must be usable in training.
    with torch.inference_mode(False):
        return _LossTables(*(torch.from_numpy(table.astype(np.float32)).to(device) for table in tables))


def _gaussian_cdf(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def _discretised_gaussian_log_likelihood(
    tokens: torch.Tensor, centred: torch.Tensor, log_scale: torch.Tensor
) -> torch.Tensor:
    """Log-probability of the 1/255 bin around each value; the bins at -1 and 1 reach to infinity."""
    below = _gaussian_cdf((centred + _BIN_HALF_WIDTH) * torch.exp(-log_scale))
    above = _gaussian_cdf((centred - _BIN_HALF_WIDTH) * torch.exp(-log_scale))
    probability = torch.where(tokens > 0.999, 1.0 - above, below - above)
    probability = torch.where(tokens < -0.999, below, probability)
    return probability.clamp(min=1e-12).log()


def token_diffusion_loss(
    head: TokenDiffusionHead, tokens: torch.Tensor, z: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared error of the noise and variational bound per token (arXiv 2102.09672, equations 14-16).

    Schedule and bound are computed in at least float32 (float64 for float64 tokens).

    Args:
        head: the denoising head.
        tokens: (..., D), clean; may broadcast.
        z: (..., condition_width); may broadcast.
        noise: (..., D), standard normal.
        timesteps: (...), integers in [0, num_train_timesteps).

    Returns:
        Mean squared error (...) and variational bound in bits per dimension (...). The bound only trains the variance:
        the mean is detached.
    """
    tables = _loss_tables(head.num_train_timesteps, timesteps.device)
    signal, sigma, minimum_log_variance, log_variance_range, mean_weight = (
        table[timesteps].unsqueeze(-1) for table in tables
    )
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    tokens, noise = tokens.to(dtype), noise.to(dtype)
    output = head(signal * tokens + sigma * noise, timesteps, z).to(dtype)
    noise_estimate, variance_value = output.split(head.token_dim, dim=-1)
    error = noise_estimate - noise
    squared_error = error.square()
    mse = squared_error.mean(dim=-1)

    # If the model's variance is e^d times the posterior's and the means only differ by the noise error,
    # KL = (d - 1 + e^-d (1 + weight error^2)) / 2.
    log_ratio = 0.5 * (variance_value + 1.0) * log_variance_range
    divergence = log_ratio + torch.expm1(-log_ratio) + torch.exp(-log_ratio) * (mean_weight * squared_error.detach())
    bound = 0.5 * divergence.mean(dim=-1)

    first = timesteps == 0  # the last reverse step has a likelihood instead
    tokens, error = tokens.expand_as(error)[first], error[first].detach()
    log_scale = 0.5 * (minimum_log_variance[first] + log_ratio[first])
    centred = (sigma[first] / signal[first]) * error
    likelihood = _discretised_gaussian_log_likelihood(tokens, centred, log_scale).mean(dim=-1)
    bound = bound.masked_scatter(first, -likelihood)
    return mse, bound / math.log(2.0)


def token_flow_loss(
    head: TokenDiffusionHead, tokens: torch.Tensor, z: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """Mean squared error of the velocity on straight paths from token to noise (arXiv 2210.02747, equation 23).

    Computed in at least float32.

    Args:
        head: the head, of the type `"flow_matching"`.
        tokens: (..., D), clean; may broadcast.
        z: (..., condition_width); may broadcast.
        noise: (..., D), standard normal.
        timesteps: (...), in [0, num_train_timesteps]: the fraction of noise times num_train_timesteps.

    Returns:
        (...).
    """
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    tokens, noise = tokens.to(dtype), noise.to(dtype)
    share = (timesteps.to(dtype) / head.num_train_timesteps).unsqueeze(-1)
    velocity = head(torch.lerp(tokens, noise, share), timesteps, z).to(dtype)
    return (velocity - (noise - tokens)).square().mean(dim=-1)


def check_scheduler(head_type: str, scheduler: Any, num_train_timesteps: int) -> None:
    """Checks that a scheduler removes noise as the head was trained to estimate it.

    Raises:
        ValueError: it follows a flow but the head estimates noise, or vice versa; another noise schedule, prediction
            or number of training timesteps; a learned variance; clipping within 3 deviations of the latents.
    """
    # Checked in the signature, because a configuration may contain entries of another scheduler class.
    accepted, config = inspect.signature(type(scheduler).__init__).parameters, scheduler.config
    # diffusers' flow-matching schedulers have no `prediction_type`; others that support flows state it there.
    follows_flow = "prediction_type" not in accepted or config.prediction_type == "flow_prediction"
    alphas_cumprod = getattr(scheduler, "alphas_cumprod", torch.empty(0)).cpu().double()
    expected = torch.from_numpy(np.cumprod(1.0 - cosine_betas(num_train_timesteps)))
    if follows_flow != (head_type == "flow_matching"):
        problem = "follows a flow" if follows_flow else "removes noise"
        problem += f", but the MAR's head has the type {head_type!r}"
    elif config.num_train_timesteps != num_train_timesteps:
        problem = f"has {config.num_train_timesteps} training timesteps, the MAR's head {num_train_timesteps}"
    elif follows_flow or "temperature" in inspect.signature(scheduler.step).parameters:
        return
    elif config.prediction_type != "epsilon":
        problem = f"expects estimates of {config.prediction_type!r}, but the MAR's head estimates the noise, 'epsilon'"
    elif alphas_cumprod.shape != expected.shape or not torch.allclose(alphas_cumprod, expected, atol=1e-3):
        problem = "has another noise schedule than the MAR's head was trained on, 'squaredcos_cap_v2'"
    elif "variance_type" in accepted and "learned" in str(config.variance_type):
        problem = "expects a learned variance, which only CPGGDDPMScheduler supports"
    elif "clip_sample" in accepted and config.clip_sample and config.get("clip_sample_range", 1.0) < 3:
        problem = f"clips latents at {config.get('clip_sample_range', 1.0)} standard deviations, which cuts them off"
    else:
        return
    remedy = "FlowMatchEulerDiscreteScheduler" if head_type == "flow_matching" else "CPGGDDPMScheduler"
    raise ValueError(f"{type(scheduler).__name__} {problem}; use {remedy}, or another class by pipe.set_scheduler.")


def clips_latents(scheduler_class: Any, config: Any) -> bool:
    """Whether a scheduler of this class and configuration bounds each step by clipping the estimated latents.

    Others, such as `HeunDiscreteScheduler`, clip as well, but correct a step by the estimate at its end.
    """
    return issubclass(scheduler_class, DDIMScheduler | DDPMScheduler) and bool(config.get("clip_sample"))


def set_inference_timesteps(head_type: str, scheduler: Any, num_inference_steps: int) -> None:
    """Resets a scheduler's timesteps (multi-step schedulers keep a history); a flow has equal steps.

    By default diffusers spends the last step of a flow on the last thousandth of the path.

    Raises:
        ValueError: one of diffusers' schedulers starts, without clipping, where only noise is left of the latents: the
            estimate of the latents divides the error of the noise estimate by nearly zero there.
    """
    if head_type == "flow_matching" and "sigmas" in inspect.signature(scheduler.set_timesteps).parameters:
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / num_inference_steps, num_inference_steps).tolist())
    else:
        scheduler.set_timesteps(num_inference_steps)
    if head_type == "flow_matching" or "temperature" in inspect.signature(scheduler.step).parameters:
        return
    first = int(scheduler.timesteps[0])
    if not clips_latents(type(scheduler), scheduler.config) and scheduler.alphas_cumprod[first] < 1e-6:
        raise ValueError(
            f"{type(scheduler).__name__} starts at timestep {first}, where only noise is left of the latents, without "
            "clipping; use pipe.set_scheduler with a class such as DPMSolverMultistepScheduler, or fewer steps."
        )


@torch.no_grad()
def sample_tokens(
    head: TokenDiffusionHead,
    z: torch.Tensor,
    noise: torch.Tensor,
    scheduler: Any,
    generators: Sequence[torch.Generator | None],
    guidance_scale: float | Guidance = 1.0,
    temperature: float = 1.0,
    decoding_step: int = 0,
    num_decoding_steps: int = 1,
) -> torch.Tensor:
    """Draws tokens with the reverse diffusion chain of `scheduler`, whose timesteps must be set.

    The modulations (over half of the arithmetic) depend on timestep and condition only and are computed for many steps
    at once.

    Args:
        head: the denoising head.
        z: (B, n, condition_width), or (2 B, n, condition_width) for guidance: conditional, then unconditional.
        noise: (B, n, D) float32, where the chains start.
        scheduler: a diffusers scheduler that fits the head's type. `CPGGDDPMScheduler` receives the noise estimate
            and the variance, any other scheduler only the noise estimate or the velocity.
        generators: one per sample; all randomness of a sample comes from its own.
        guidance_scale: a constant scale or a guidance rule, for z of 2 B rows; the variance is the conditional one.
        temperature: scale of the noise that each step adds; values other than 1 need `CPGGDDPMScheduler`.
        decoding_step: number of the decoding step that draws these tokens, from 0, for the guidance rule.
        num_decoding_steps: number of decoding steps.

    Returns:
        (B, n, D) float32.

    Raises:
        ValueError: the scheduler does not fit the head or has no temperature.
    """
    guidance = as_guidance(guidance_scale)
    check_scheduler(head.head_type, scheduler, head.num_train_timesteps)
    batch_size, num_tokens, token_dim = noise.shape
    timesteps, device = scheduler.timesteps, z.device
    accepted = inspect.signature(scheduler.step).parameters
    learned_variance = "temperature" in accepted
    options: dict[str, Any] = {}
    if learned_variance:
        shape = (len(timesteps), num_tokens, token_dim)
        drawn = [torch.randn(shape, generator=g, device="cpu" if g is None else g.device) for g in generators]
        variance_noise = torch.stack([noise_of_sample.to(device) for noise_of_sample in drawn], dim=1).transpose(2, 3)
        options["temperature"] = temperature
    elif temperature != 1.0:
        raise ValueError(
            f"{type(scheduler).__name__} has no temperature, given {temperature}; use CPGGDDPMScheduler, or 1."
        )
    elif "generator" in accepted and None not in generators:
        options["generator"] = generators

    condition = head.condition_projection(z.to(head.dtype))
    times = head.embed_timesteps(timesteps.to(device))[:, None, None]
    steps_at_once = max(1, _MODULATION_ELEMENTS // (condition.numel() * (3 * len(head.blocks) + 2)))
    sample = noise.transpose(1, 2)  # (B, D, n): a list of generators needs the batch in front
    for index, timestep in enumerate(timesteps):
        if index % steps_at_once == 0:
            modulations = head.modulations(times[index : index + steps_at_once] + condition)
            per_step = zip(
                *(zip(*(part.unbind() for part in layer), strict=True) for layer in modulations), strict=True
            )
        model_input = sample
        if hasattr(scheduler, "scale_model_input"):  # flow-matching schedulers have none
            model_input = scheduler.scale_model_input(sample, timestep)
        hidden_states = head.input_projection(model_input.transpose(1, 2).to(head.dtype))
        if z.shape[0] == 2 * batch_size:
            hidden_states = torch.cat([hidden_states, hidden_states])
        output = head.denoise(hidden_states, next(per_step)).float()
        estimate, variance_value = output[..., :token_dim], output[..., token_dim:]
        if z.shape[0] == 2 * batch_size:
            estimate, unconditional = estimate.chunk(2)
            step = GuidanceStep(decoding_step, num_decoding_steps, index, len(timesteps))
            estimate, variance_value = guidance.combine(estimate, unconditional, step), variance_value[:batch_size]
        if learned_variance:
            estimate = torch.cat([estimate, variance_value], dim=-1)
            options["variance_noise"] = variance_noise[index]
        sample = scheduler.step(estimate.transpose(1, 2), timestep, sample, return_dict=False, **options)[0]
    return sample.transpose(1, 2)
