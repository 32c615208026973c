"""Configuration of the masked autoregressive transformer of CPGG (arXiv 2505.03426, section 2.2)."""

import math

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from cpgg_hf.phenotypes import PHENOTYPES


@strict
class CPGGMARConfig(PreTrainedConfig):
    r"""
    Configuration of a [`CPGGMARModel`]. The defaults are the paper's; where text and code differ, the code's.

    Args:
        num_phenotypes (`int`, defaults to 82):
            Number of phenotypes that condition a cine.
        phenotype_mean (`list[float]`, *optional*):
            Mean of each phenotype in physical units; `None` = the table of `cpgg_hf.phenotypes`.
        phenotype_sd (`list[float]`, *optional*):
            Standard deviation of each phenotype in physical units; `None` = the table of `cpgg_hf.phenotypes`.
        latent_channels (`int`, defaults to 16):
            Channels of the latents.
        latent_size (`tuple[int, int, int]`, defaults to `(25, 12, 12)`):
            Frames, rows and columns of the latents.
        patch_size (`tuple[int, int, int]`, defaults to `(5, 2, 2)`):
            Frames, rows and columns of the latent patch of a token.
        encoder_width (`int`, defaults to 768):
            Width of the encoder, which only sees the visible tokens.
        encoder_depth (`int`, defaults to 12):
            Layers of the encoder.
        decoder_width (`int`, defaults to 768):
            Width of the decoder, which sees all tokens.
        decoder_depth (`int`, defaults to 12):
            Layers of the decoder.
        num_attention_heads (`int`, defaults to 12):
            Attention heads of encoder and decoder.
        mlp_ratio (`float`, defaults to 4.0):
            Hidden width of a layer's MLP, relative to the layer's width.
        num_condition_tokens (`int`, defaults to 64):
            Number of tokens before the sequence that carry the embedded phenotypes (one in the paper's text).
        condition_projection (`str`, defaults to `"linear"`):
            Embedding of the phenotypes: `"linear"`, or `"mlp"` as in the paper's text (linear, SiLU, linear).
        head_type (`str`, defaults to `"diffusion"`):
            `"diffusion"` (paper): the head estimates noise and variance of a diffusion with cosine schedule;
            `"flow_matching"`: the velocity of a straight flow from noise to token, for few Euler steps.
        head_width (`int`, defaults to 1024):
            Width of the token diffusion head.
        head_depth (`int`, defaults to 3):
            Residual blocks of the token diffusion head.
        num_train_timesteps (`int`, defaults to 1000):
            Training steps of the diffusion (cosine schedule), or the timestep of pure noise of a flow.
        timesteps_per_token (`int`, defaults to 4):
            Number of diffusion timesteps that a training step draws per masked token.
        mask_ratio_minimum (`float`, defaults to 0.7):
            Lower bound of the share of masked tokens in training; the upper bound is 1.
        mask_ratio_mean (`float`, defaults to 1.0):
            Mean of the normal distribution that is truncated to these bounds.
        mask_ratio_sd (`float`, defaults to 0.25):
            Standard deviation of that normal distribution.
        condition_dropout (`float`, defaults to 0.1):
            Probability that training replaces a sample's condition by the null embedding (for guidance).
        dropout (`float`, defaults to 0.1):
            Dropout of attention weights and of the projections of attention and MLP, in training.
        layer_norm_eps (`float`, defaults to 1e-6):
            Epsilon of the layer normalisations.
        data_policy (`str`, *optional*):
            Data policy of the training data; `None` = restricted.
    """

    model_type = "cpgg_mar"

    num_phenotypes: int = 82
    phenotype_mean: list[float | int] | None = None
    phenotype_sd: list[float | int] | None = None
    latent_channels: int = 16
    latent_size: list[int] | tuple[int, ...] = (25, 12, 12)
    patch_size: list[int] | tuple[int, ...] = (5, 2, 2)
    encoder_width: int = 768
    encoder_depth: int = 12
    decoder_width: int = 768
    decoder_depth: int = 12
    num_attention_heads: int = 12
    mlp_ratio: float | int = 4.0
    num_condition_tokens: int = 64
    condition_projection: str = "linear"
    head_type: str = "diffusion"
    head_width: int = 1024
    head_depth: int = 3
    num_train_timesteps: int = 1000
    timesteps_per_token: int = 4
    mask_ratio_minimum: float | int = 0.7
    mask_ratio_mean: float | int = 1.0
    mask_ratio_sd: float | int = 0.25
    condition_dropout: float | int = 0.1
    dropout: float | int = 0.1
    layer_norm_eps: float = 1e-6
    data_policy: str | None = None

    def __post_init__(self, **kwargs):
        self.latent_size, self.patch_size = tuple(self.latent_size), tuple(self.patch_size)
        if self.phenotype_mean is None or self.phenotype_sd is None:
            if self.phenotype_mean is None:
                self.phenotype_mean = [float(phenotype.mean) for phenotype in PHENOTYPES]
            if self.phenotype_sd is None:
                self.phenotype_sd = [float(phenotype.sd) for phenotype in PHENOTYPES]
        super().__post_init__(**kwargs)

    def validate_geometry(self):
        """Checks that the latents divide into patches and the widths into attention heads."""
        if len(self.latent_size) != 3 or len(self.patch_size) != 3:
            raise ValueError(
                f"latent_size and patch_size must be (frames, rows, columns), given {self.latent_size} and "
                f"{self.patch_size}."
            )
        if any(size % patch for size, patch in zip(self.latent_size, self.patch_size, strict=True)):
            raise ValueError(
                f"latent_size must be a multiple of patch_size {self.patch_size}, given {self.latent_size}."
            )
        for name in ("encoder_width", "decoder_width"):
            if getattr(self, name) % self.num_attention_heads:
                raise ValueError(
                    f"{name} must be a multiple of num_attention_heads {self.num_attention_heads}, given "
                    f"{getattr(self, name)}."
                )
        if min(self.encoder_depth, self.decoder_depth, self.num_condition_tokens) < 1:
            raise ValueError("encoder_depth, decoder_depth and num_condition_tokens must be at least 1.")

    def validate_phenotype_scaler(self):
        """Checks that the scaler has one mean and one positive standard deviation per phenotype."""
        mean, sd = self.phenotype_mean or [], self.phenotype_sd or []
        if (len(mean), len(sd)) != (self.num_phenotypes, self.num_phenotypes):
            raise ValueError(
                f"phenotype_mean and phenotype_sd must have num_phenotypes {self.num_phenotypes} values, given "
                f"{len(mean)} and {len(sd)}."
            )
        if min(sd) <= 0:
            raise ValueError(f"phenotype_sd must be positive, given a value of {min(sd)}.")

    def validate_choices(self):
        """Checks choices and the distribution of mask ratios."""
        if self.condition_projection not in ("linear", "mlp"):
            raise ValueError(f'condition_projection must be "linear" or "mlp", given {self.condition_projection!r}.')
        if self.head_type not in ("diffusion", "flow_matching"):
            raise ValueError(f'head_type must be "diffusion" or "flow_matching", given {self.head_type!r}.')
        if not 0 < self.mask_ratio_minimum < 1 or self.mask_ratio_sd <= 0:
            raise ValueError(
                f"mask_ratio_minimum must lie between 0 and 1 and mask_ratio_sd above 0, given "
                f"{self.mask_ratio_minimum} and {self.mask_ratio_sd}."
            )

    @property
    def grid_size(self) -> tuple[int, ...]:
        """Tokens along time, rows and columns."""
        return tuple(size // patch for size, patch in zip(self.latent_size, self.patch_size, strict=True))

    @property
    def num_hidden_layers(self) -> int:
        """Layers of encoder and decoder, for which hidden states can be returned."""
        return self.encoder_depth + self.decoder_depth

    @property
    def num_tokens(self) -> int:
        """Tokens of one cine: 180 in the paper's configuration."""
        return math.prod(self.grid_size)

    @property
    def token_dim(self) -> int:
        """Numbers in one token: 320 in the paper's configuration."""
        return self.latent_channels * math.prod(self.patch_size)


__all__ = ["CPGGMARConfig"]
