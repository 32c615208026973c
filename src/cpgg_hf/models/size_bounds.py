"""Largest sizes in configurations: a damaged or hostile one is refused before it takes minutes or all memory."""

import math
from collections.abc import Mapping
from typing import Any

SIZE_BOUNDS = {
    **dict.fromkeys(("encoder_depth", "decoder_depth", "head_depth"), 256),
    **dict.fromkeys(("layers_per_block", "mlp_ratio"), 64),
    **dict.fromkeys(("encoder_width", "decoder_width", "head_width", "block_out_channels", "hidden_dims"), 16_384),
    **dict.fromkeys(("norm_num_groups", "refiner_channels", "num_attention_heads", "num_condition_tokens"), 16_384),
    **dict.fromkeys(("in_channels", "out_channels", "latent_channels", "latent_dim", "num_phenotypes"), 4_096),
    **dict.fromkeys(("num_mixture_components", "latent_size", "sample_size", "patch_size", "temporal_factors"), 4_096),
    **dict.fromkeys(("timesteps_per_token", "micro_batch_size"), 4_096),
    **dict.fromkeys(("num_decoding_steps", "num_train_timesteps", "num_inference_steps"), 100_000),
}
"""The largest value by name; the paper has depths of 12, widths of 768, 180 tokens."""
_LONGEST_LIST = 32


def check_sizes(config: Mapping[str, Any]) -> None:
    """ValueError for a size above its bound, a list of more than 32 sizes, or one of numbers that are not all finite.

    Single numbers may be infinite: `lambda_min_clipped` of diffusers' DPM-Solver is.
    """
    for name, value in config.items():
        numbers = value if isinstance(value, list | tuple) else ()
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise ValueError(f"{name} must be finite, given {str(value)[:60]}.")
    for name, bound in SIZE_BOUNDS.items():
        value = config.get(name)
        sizes = value if isinstance(value, list | tuple) else [value]
        if len(sizes) > _LONGEST_LIST or any(
            isinstance(size, int | float) and not abs(size) <= bound for size in sizes
        ):
            raise ValueError(f"{name} can be at most {bound:,}, given {str(value)[:60]}.")
