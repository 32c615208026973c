"""The KL divergence of a Gaussian posterior, the only definition for losses and statistics of both VAEs."""

import torch


def kl_to_standard_normal(mean: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, exp(logvar)) || N(0, 1)) per element in nats, of any shape (arXiv 1312.6114, appendix B)."""
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar)
