"""The adversarial term of the 3D-VAE (paper, section 2.2), as in Stable Diffusion's VAE but over space and time.

A patch discriminator (pix2pix), hinge loss, and a weight that keeps the gradient of the term at the decoder's last
layer in proportion to that of the reconstruction loss (VQGAN, equation 7). MONAI's discriminator would serve too, but
importing it takes 10 s of CPU time (3,600 modules) in every process.
"""

from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils import reduce
from torch import nn

from cpgg_hf.training.stage import at_least_float32

_NORM_GROUPS = 4


class PatchDiscriminator(nn.Module):
    """Rates overlapping patches of a cine: (B, in_channels, T, H, W) -> logits (B, 1, t, h, w), high for real ones.

    The published 2D discriminator with kernels of three frames. Group norms replace its batch norms, so that the
    logits of a cine do not depend on other cines and are the same on any number of processes.

    Args:
        in_channels: channels of a cine.
        channels: width of the first convolution, a multiple of 4; it doubles with every layer, up to eightfold.
        num_layers: layers between the first and the last. A patch spans 70 x 70 pixels with 3, 34 x 34 with 2,
            16 x 16 with 1.
    """

    def __init__(self, in_channels: int = 1, channels: int = 64, num_layers: int = 3) -> None:
        super().__init__()
        strides = [2] * (num_layers - 1) + [1]
        layers: list[nn.Module] = [_convolution(in_channels, channels, 2), nn.LeakyReLU(0.2)]
        width = channels
        for layer, stride in enumerate(strides, start=1):
            narrower, width = width, channels * min(2**layer, 8)
            layers += [_convolution(narrower, width, stride, bias=False), nn.GroupNorm(_NORM_GROUPS, width)]
            layers += [nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, _convolution(width, 1, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.normal_(module.weight, 0.0, 0.02)

    def forward(self, cines: torch.Tensor) -> torch.Tensor:
        """Logits of the patches."""
        return self.layers(cines)


def discriminator_loss(discriminator: Any, real: torch.Tensor, generated: torch.Tensor) -> dict[str, torch.Tensor]:
    """The hinge loss of cines (B, C, T, H, W) in [-1, 1] and their detached reconstructions, and their mean logits."""
    real_logits, generated_logits = (at_least_float32(discriminator(cines)) for cines in (real, generated))
    loss = 0.5 * (F.relu(1.0 - real_logits).mean() + F.relu(1.0 + generated_logits).mean())
    return {"loss": loss, "real": real_logits.mean(), "generated": generated_logits.mean()}


def adaptive_weight(
    reconstruction_loss: torch.Tensor, adversarial_loss: torch.Tensor, last_layer: torch.Tensor, num_samples: int
) -> torch.Tensor:
    """Ratio of the norms of the two losses' gradients at the last layer, at most 10,000; detached.

    Gradients are averaged over the samples of all processes, which must call this together and get the same weight.
    With gradient accumulation each micro-batch has its own.

    Args:
        reconstruction_loss: mean over the `num_samples` samples of this process.
        adversarial_loss: the same.
        last_layer: a weight that both depend on.
        num_samples: number of samples of this process.
    """
    gradients = [
        at_least_float32(torch.autograd.grad(loss, last_layer, retain_graph=True)[0]).flatten()
        for loss in (reconstruction_loss, adversarial_loss)
    ]
    count = gradients[0].new_tensor([float(num_samples)])
    total = reduce(torch.cat([num_samples * gradients[0], num_samples * gradients[1], count]), reduction="sum")
    reconstruction, adversarial = (total[:-1] / total[-1]).chunk(2)
    return (reconstruction.norm() / (adversarial.norm() + 1e-4)).clamp(0.0, 1e4)


def _convolution(in_channels: int, out_channels: int, stride: int, bias: bool = True) -> nn.Conv3d:
    return nn.Conv3d(in_channels, out_channels, kernel_size=(3, 4, 4), stride=stride, padding=1, bias=bias)
