"""`CineSegmenter`: a small U-Net from cine frames to the share of each pixel that each structure covers.

Trained on phantom frames with soft targets (`phantom_frames.py`), so that sums of its probabilities are areas.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from cpgg_hf.grid import NUM_FRAMES
from cpgg_hf.hub.mixin import HubPolicyMixin
from cpgg_hf.models.checkpoint_files import check_model
from cpgg_hf.phantom import LABELS


class CineSegmenter(HubPolicyMixin, ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A 2D U-Net on one frame between an earlier and a later one.

    A space-to-depth stem halves the image, the last layer doubles it again, so that no convolution works at full size.

    Args:
        context_frames: the input frames relative to the segmented one, of 50 per beat; the beat is periodic.
        block_out_channels: channels of each level; each level halves the image once more.
        layers_per_block: residual blocks per level, in the encoder and in the decoder.
        norm_num_groups: number of groups of the group norms.
        training_record: how these weights were trained, with results; documentation only.
        data_policy: data policy of the training data; unknown = restricted.
    """

    config: Any  # attributes are the arguments above

    @register_to_config
    def __init__(
        self,
        context_frames: tuple[int, ...] = (-2, 0, 2),
        block_out_channels: tuple[int, ...] = (24, 48, 96),
        layers_per_block: int = 1,
        norm_num_groups: int = 4,
        training_record: dict[str, Any] | None = None,  # noqa: ARG002 - kept in the configuration
        data_policy: str | None = None,  # noqa: ARG002 - likewise
    ):
        super().__init__()

        def blocks(channels: int) -> nn.ModuleList:
            return nn.ModuleList(
                ResnetBlock2D(in_channels=channels, temb_channels=None, groups=norm_num_groups, eps=1e-5)  # type: ignore[arg-type]
                for _ in range(layers_per_block)
            )

        first = block_out_channels[0]
        self.conv_in = nn.Conv2d(4 * len(context_frames), first, 3, padding=1)
        self.down_blocks = nn.ModuleList(blocks(channels) for channels in block_out_channels)
        self.downsamplers = nn.ModuleList(
            nn.Conv2d(above, below, 3, stride=2, padding=1) for above, below in pairwise(block_out_channels)
        )
        self.upsamplers = nn.ModuleList(nn.Conv2d(below, above, 1) for above, below in pairwise(block_out_channels))
        self.up_blocks = nn.ModuleList(blocks(channels) for channels in block_out_channels[:-1])
        self.norm_out = nn.GroupNorm(norm_num_groups, first)
        self.conv_out = nn.Conv2d(first, 4 * len(LABELS), 1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Logits of the labels.

        Args:
            frames: (N, context frames, H, W) in [-1, 1]; H and W multiples of 2 ** levels.

        Returns:
            (N, 7, H, W), channels as `phantom.LABELS`.
        """
        *skips, hidden = self.features(frames)
        for level in reversed(range(len(self.up_blocks))):
            upsampled = nn.functional.interpolate(self.upsamplers[level](hidden), scale_factor=2.0, mode="nearest")
            hidden = skips[level] + upsampled
            for block in self.up_blocks[level]:  # type: ignore[attr-defined]
                hidden = block(hidden, None)
        hidden = nn.functional.silu(self.norm_out(hidden))
        return nn.functional.pixel_shuffle(self.conv_out(hidden), 2)

    def features(self, frames: torch.Tensor) -> list[torch.Tensor]:
        """The encoder's features of frames: a tensor (N, C, H / 2 ** level, W / 2 ** level) for levels 1, 2, ...

        Args:
            frames: as `forward` takes them.
        """
        hidden = self.conv_in(nn.functional.pixel_unshuffle(frames, 2))
        levels = []
        for level, level_blocks in enumerate(self.down_blocks):
            if level:
                hidden = self.downsamplers[level - 1](hidden)
            for block in level_blocks:  # type: ignore[attr-defined]
                hidden = block(hidden, None)
            levels.append(hidden)
        return levels

    @torch.no_grad()
    def segment(self, cine: torch.Tensor) -> torch.Tensor:
        """Label probabilities of one cine, in float32 (processors without AVX-512 are 20 times slower in bfloat16).

        Args:
            cine: (T, H, W) in [0, 1], one heartbeat; H and W multiples of 2 ** levels. `context_frames` count
                fiftieths of the beat, whatever T is.

        Returns:
            (T, 7, H, W) float32 on the segmenter's device, channels as `phantom.LABELS`.
        """
        frames = 2 * cine.to(self.device, torch.float32) - 1
        offsets = [round(offset * len(frames) / NUM_FRAMES) for offset in self.config.context_frames]
        context = torch.stack([frames.roll(-offset, dims=0) for offset in offsets], dim=1)
        # On a CPU convolutions are twice as fast with channels last.
        return self(context.contiguous(memory_format=torch.channels_last)).float().softmax(dim=1)


def load_segmenter(folder: str) -> CineSegmenter:
    """The network in a folder, ready to segment, on the CPU.

    Raises:
        CheckpointError: the folder has no segmenter, or a damaged one.
    """
    check_model(Path(folder), CineSegmenter)
    return CineSegmenter.from_pretrained(folder, use_safetensors=True).eval()
