"""A small transformer for tests: 36 tokens of 40, all of its weights random (fresh ones are zero where it matters)."""

from typing import Any

import torch

from cpgg_hf.models.configuration_cpgg_mar import CPGGMARConfig
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel


def tiny_config(**options: Any) -> CPGGMARConfig:
    sizes: dict[str, Any] = {
        "latent_channels": 2,
        "latent_size": (5, 12, 12),
        "encoder_width": 16,
        "encoder_depth": 2,
        "decoder_width": 24,
        "decoder_depth": 2,
        "num_attention_heads": 4,
        "num_condition_tokens": 3,
        "head_width": 20,
        "head_depth": 2,
    }
    return CPGGMARConfig(**(sizes | options))


def tiny_model(**options: Any) -> CPGGMARModel:
    torch.manual_seed(0)
    model = CPGGMARModel(tiny_config(**options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def phenotypes(batch_size: int, seed: int = 0) -> torch.Tensor:
    """Plausible phenotypes (B, 82) in physical units, float64."""
    config = tiny_config()
    mean, sd = (torch.tensor(v, dtype=torch.float64) for v in (config.phenotype_mean, config.phenotype_sd))
    generator = torch.Generator().manual_seed(seed)
    return mean + sd * torch.randn(batch_size, 82, generator=generator, dtype=torch.float64)


def latents(batch_size: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch_size, 2, 5, 12, 12, generator=torch.Generator().manual_seed(seed))
