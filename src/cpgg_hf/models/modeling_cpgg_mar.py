"""The masked autoregressive transformer of CPGG (arXiv 2505.03426, section 2.2).

Latents are cut into tokens. An encoder sees the visible tokens, a decoder all of them, and a small diffusion head
draws each masked token given the decoder's vector `z` for it. Phenotypes enter as tokens before the sequence.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, LoadStateDictInfo
from transformers.utils import ModelOutput
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from cpgg_hf.data_policy import strictest
from cpgg_hf.hub.mixin import HubPolicyMixin
from cpgg_hf.hub.policy import policy_of_adapter
from cpgg_hf.models.configuration_cpgg_mar import CPGGMARConfig
from cpgg_hf.models.guidance import Guidance, GuidanceStep, as_guidance
from cpgg_hf.models.token_diffusion import (
    AdaLNBlock,
    AdaLNOutput,
    TokenDiffusionHead,
    check_scheduler,
    sample_tokens,
    set_inference_timesteps,
    token_diffusion_loss,
    token_flow_loss,
)


@dataclass
class CPGGMAROutput(ModelOutput):
    """Output of `CPGGMARModel`.

    Args:
        loss (`torch.Tensor`, *optional*): mean over the chosen tokens of `loss_mse + loss_vlb`, at least float32.
        loss_mse (`torch.Tensor`, *optional*): mean squared error of the noise estimate, or of a flow's velocity.
        loss_vlb (`torch.Tensor`, *optional*): variational bound in bits per dimension; None for a flow.
        z (`torch.Tensor`): (B, n, decoder_width), the condition of the head for each chosen token.
        positions (`torch.LongTensor`): (B, n), positions of the chosen tokens.
        hidden_states (`tuple[torch.Tensor]`, *optional*): input of the encoder and output of each of its layers, (B,
            num_condition_tokens + v, encoder_width), then output of each layer of the decoder.
        attentions (`tuple[torch.Tensor]`, *optional*): (B, heads, queries, keys), attention weights of each layer of
            encoder and decoder; only with `attn_implementation="eager"`.
    """

    loss: torch.Tensor | None = None
    loss_mse: torch.Tensor | None = None
    loss_vlb: torch.Tensor | None = None
    z: torch.Tensor | None = None
    positions: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


def decoding_schedule(num_tokens: int, num_decoding_steps: int) -> list[int]:
    """Number of tokens that each decoding step draws: a cosine schedule (few first) with at least one per step.

    Raises:
        ValueError: more steps than tokens, or none.
    """
    if not 1 <= num_decoding_steps <= num_tokens:
        raise ValueError(
            f"num_decoding_steps must lie between 1 and {num_tokens} (one per token), given {num_decoding_steps}."
        )
    remaining = num_tokens
    drawn = []
    for step in range(1, num_decoding_steps):
        masked = min(math.floor(num_tokens * math.cos(math.pi / 2 * step / num_decoding_steps)), remaining - 1)
        drawn.append(remaining - masked)
        remaining = masked
    return [*drawn, remaining]


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _attention_mask: None,
    scaling: float,
    dropout: float = 0.0,
    **_kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain attention, for `attn_implementation="eager"`: (B, heads, N, d) -> (B, N, heads, d), weights."""
    weights = torch.matmul(query, key.transpose(2, 3)) * scaling
    weights = F.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def _take_rows(hidden_states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Selects row `positions[b, i]` of each sample: (B, N, D), (B, n) -> (B, n, D)."""
    return (
        hidden_states.flatten(0, 1)
        .index_select(0, _flat(positions, hidden_states.shape[1]))
        .unflatten(0, positions.shape)
    )


def _flat(positions: torch.Tensor, num_rows: int) -> torch.Tensor:
    """Row numbers (B n,) in the concatenated sequences of a batch."""
    starts = torch.arange(positions.shape[0], device=positions.device).unsqueeze(1) * num_rows
    return (positions + starts).flatten()


class CPGGMARAttention(nn.Module):
    """Bidirectional multi-head attention, optionally only from some of the tokens."""

    def __init__(self, config: CPGGMARConfig, width: int):
        super().__init__()
        self.config = config
        self.head_dim = width // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.dropout = config.dropout
        self.is_causal = False
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(
        self, hidden_states: torch.Tensor, query_states: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attends from `query_states` (B, n, width) to `hidden_states` (B, N, width): (B, n, width), eager weights."""
        query, key, value = (
            projection(states).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for projection, states in (
                (self.query, query_states),
                (self.key, hidden_states),
                (self.value, hidden_states),
            )
        )
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        attended, weights = attention(
            self, query, key, value, None, dropout=self.dropout if self.training else 0.0, scaling=self.scaling
        )
        return self.output(attended.flatten(2)), weights


class CPGGMARLayer(GradientCheckpointingLayer):
    """Pre-norm transformer layer: attention, then MLP with exact GELU.

    Args:
        config: the model's configuration.
        width: width of this layer.
    """

    def __init__(self, config: CPGGMARConfig, width: int):
        super().__init__()
        hidden_width = int(width * config.mlp_ratio)
        self.attention_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.attention = CPGGMARAttention(config, width)
        self.mlp_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp_in = nn.Linear(width, hidden_width)
        self.mlp_out = nn.Linear(hidden_width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden_states: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        """Maps (B, N, width) to (B, N, width), or only to the rows at `positions` (B, n): (B, n, width)."""
        normalised = self.attention_norm(hidden_states)
        queries = normalised
        if positions is not None:
            queries, hidden_states = _take_rows(normalised, positions), _take_rows(hidden_states, positions)
        hidden_states = hidden_states + self.dropout(self.attention(normalised, queries)[0])
        update = self.dropout(F.gelu(self.mlp_in(self.mlp_norm(hidden_states))))
        return hidden_states + self.dropout(self.mlp_out(update))


class CPGGMARModel(HubPolicyMixin, PreTrainedModel):  # type: ignore[misc]
    r"""
    Phenotypes to cine latents: masked autoregressive transformer with a diffusion (or flow-matching) loss per token.

    This model inherits from [`~transformers.PreTrainedModel`]: see there for loading, saving, devices and dtypes.
    `forward` computes the training loss or the vectors `z`; `generate_latents` draws latents.

    Args:
        config ([`CPGGMARConfig`]): the configuration; its defaults are the paper's.
    """

    config_class = CPGGMARConfig
    base_model_prefix = "mar"
    main_input_name = "latents"
    supports_gradient_checkpointing = True
    _no_split_modules = ["CPGGMARLayer", "AdaLNBlock"]  # noqa: RUF012 - declared so by the base class
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _input_embed_layer = "token_projection"
    _can_record_outputs = {  # noqa: RUF012
        "hidden_states": OutputRecorder(CPGGMARLayer),
        "attentions": OutputRecorder(CPGGMARAttention, index=1),
    }

    def __init__(self, config: CPGGMARConfig):
        super().__init__(config)
        encoder_width, decoder_width = config.encoder_width, config.decoder_width
        sequence_length = config.num_condition_tokens + config.num_tokens

        layers: list[nn.Module] = [nn.Linear(config.num_phenotypes, encoder_width)]
        if config.condition_projection == "mlp":
            layers += [nn.SiLU(), nn.Linear(encoder_width, encoder_width)]
        self.condition_projection = nn.Sequential(*layers)
        self.missing_phenotype_embedding = nn.Parameter(torch.empty(config.num_phenotypes, encoder_width))
        self.null_condition_embedding = nn.Parameter(torch.empty(encoder_width))

        self.token_projection = nn.Linear(config.token_dim, encoder_width)
        self.encoder_position_embedding = nn.Parameter(torch.empty(sequence_length, encoder_width))
        self.embedding_norm = nn.LayerNorm(encoder_width, eps=config.layer_norm_eps)
        self.encoder_layers = nn.ModuleList(CPGGMARLayer(config, encoder_width) for _ in range(config.encoder_depth))
        self.encoder_norm = nn.LayerNorm(encoder_width, eps=config.layer_norm_eps)

        self.decoder_projection = nn.Linear(encoder_width, decoder_width)
        self.mask_token = nn.Parameter(torch.empty(decoder_width))
        self.decoder_position_embedding = nn.Parameter(torch.empty(sequence_length, decoder_width))
        self.decoder_layers = nn.ModuleList(CPGGMARLayer(config, decoder_width) for _ in range(config.decoder_depth))
        self.decoder_norm = nn.LayerNorm(decoder_width, eps=config.layer_norm_eps)

        self.diffusion_position_embedding = nn.Parameter(torch.empty(config.num_tokens, decoder_width))
        self.diffusion_head = TokenDiffusionHead(
            config.token_dim,
            decoder_width,
            config.head_width,
            config.head_depth,
            config.num_train_timesteps,
            config.head_type,
        )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialises one module as published: Xavier, or zeros where a layer must start as the identity."""
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, TokenDiffusionHead):
            for layer in module.time_embedding.children():
                if isinstance(layer, nn.Linear):
                    init.normal_(layer.weight, std=0.02)
            init.zeros_(module.output.linear.weight)
        elif isinstance(module, AdaLNBlock | AdaLNOutput):
            init.zeros_(module.modulation.weight)
        elif isinstance(module, CPGGMARModel):
            init.zeros_(module.missing_phenotype_embedding)
            for name, parameter in module.named_parameters(recurse=False):
                if name != "missing_phenotype_embedding":
                    init.normal_(parameter, std=0.02)
        else:
            super()._init_weights(module)

    def load_adapter(  # type: ignore[override]
        self, peft_model_id: str | None = None, adapter_name: str | None = None, **kwargs: Any
    ) -> LoadStateDictInfo:
        """Adds a PEFT adapter to the model; see [`~transformers.PreTrainedModel.load_adapter`].

        The model then has the stricter data policy of the two, also after the adapter is removed, because it may have
        been merged. An adapter without a policy is restricted.

        Args:
            peft_model_id: folder or Hub repository that `save_pretrained` or `push_to_hub` of an adapted model wrote.
            adapter_name: `"default"` by default.
            kwargs: see the base class.

        Raises:
            ValueError: the adapter belongs to another network, or tensors are missing. (transformers only warns and
                leaves missing tensors randomly initialised.)
        """
        info = super().load_adapter(peft_model_id, adapter_name, ignore_mismatched_sizes=True, **kwargs)
        # transformers also reports the tensors of other adapters, and all whose names contain this adapter's name.
        own = tuple(
            f"{name}.{layer}.{adapter_name or 'default'}."
            for name, module in self.named_modules()
            for layer in getattr(module, "adapter_layer_names", ())
        )
        info.missing_keys = {key for key in info.missing_keys if key.startswith(own)}
        wrong = {*info.missing_keys, *info.unexpected_keys, *(key[0] for key in info.mismatched_keys)}
        if wrong:
            self.delete_adapter(adapter_name or "default")
            raise ValueError(
                f"the adapter {peft_model_id} does not fit this MAR because {len(wrong)} tensors, such as "
                f"{min(wrong)!r}, are missing, unknown or of another shape; load it onto the MAR it was trained with."
            )
        load_config = kwargs.get("load_config")
        hub = {**(load_config.download_kwargs if load_config else {}), **(kwargs.get("adapter_kwargs") or {})}
        self.config.data_policy = strictest([self.config.data_policy, policy_of_adapter(peft_model_id, **hub)])
        return info

    def delete_adapter(self, adapter_names: list[str] | str) -> None:
        """Removes adapters; without adapters the network is restored and saved completely again.

        (transformers keeps PEFT's layers and saves their names, which no model could load.)
        """
        super().delete_adapter(adapter_names)
        if not self._hf_peft_config_loaded:
            adapted = [(name, module) for name, module in self.named_modules() if hasattr(module, "base_layer")]
            for name, module in adapted:
                self.set_submodule(name, module.base_layer)
            self._weight_conversions: list[Any] = []

    def patchify(self, latents: torch.Tensor) -> torch.Tensor:
        """Cuts latents (B, C, T', H', W') into tokens (B, L, D) in the order t, h, w, each flattened channel first.

        Raises:
            ValueError: latents of another shape than the config's.
        """
        expected = (self.config.latent_channels, *self.config.latent_size)
        if tuple(latents.shape[1:]) != expected:
            raise ValueError(
                f"latents must have shape (B, {', '.join(map(str, expected))}) by the model's config, given "
                f"{tuple(latents.shape)}."
            )
        patches = latents
        for axis, patch in enumerate(self.config.patch_size):
            patches = patches.unflatten(2 + 2 * axis, (-1, patch))
        # (B, C, T, t, H, h, W, w) -> (B, T, H, W, C, t, h, w)
        return patches.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)

    def unpatchify(self, tokens: torch.Tensor) -> torch.Tensor:
        """Assembles latents (B, C, T', H', W') from tokens (B, L, D), the inverse of `patchify`."""
        config = self.config
        patches = tokens.unflatten(1, config.grid_size).unflatten(4, (config.latent_channels, *config.patch_size))
        # (B, T, H, W, C, t, h, w) -> (B, C, T, t, H, h, W, w)
        patches = patches.permute(0, 4, 1, 5, 2, 6, 3, 7)
        return patches.reshape(tokens.shape[0], config.latent_channels, *config.latent_size)

    def draw_mask(
        self, batch_size: int, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """Draws a training mask (B, L), True = masked: one ratio per batch, one order per sample.

        The ratio follows the configured normal distribution truncated to [mask_ratio_minimum, 1].
        """
        source = "cpu" if generator is None else generator.device
        ratio = torch.rand((), generator=generator, device=source, dtype=torch.float64).item()
        order = torch.rand((batch_size, self.config.num_tokens), generator=generator, device=source)
        return self.mask_of(ratio, order).to(device)

    def mask_of(self, ratio: float, order: torch.Tensor) -> torch.Tensor:
        """The training mask (B, L), True = masked, from uniform draws.

        Args:
            ratio: in [0, 1), quantile of the share of masked tokens in its distribution.
            order: (B, L); the tokens with the smallest values are masked.
        """
        mask = torch.zeros_like(order, dtype=torch.bool)
        return mask.scatter(1, order.argsort(dim=1)[:, : self.num_masked(self.config, ratio)], True)

    @staticmethod
    def num_masked(config: Any, ratio: float) -> int:
        """Number of masked tokens at the quantile `ratio` in [0, 1) of the truncated distribution of their share."""
        distribution = NormalDist(config.mask_ratio_mean, config.mask_ratio_sd)
        lower, upper = distribution.cdf(config.mask_ratio_minimum), distribution.cdf(1.0)
        share = max(distribution.inv_cdf(lower + (upper - lower) * ratio), config.mask_ratio_minimum)
        return min(math.ceil(config.num_tokens * share), config.num_tokens)

    def embed_phenotypes(self, phenotypes: torch.Tensor, drop_condition: torch.Tensor | None = None) -> torch.Tensor:
        """Embeds phenotypes in physical units as the condition.

        Args:
            phenotypes: (B, num_phenotypes), float32 or float64; NaN = missing. Standardised in that precision.
            drop_condition: (B,) bool, where the null embedding replaces the condition.

        Returns:
            (B, encoder_width).

        Raises:
            ValueError: a wrong shape.
        """
        if phenotypes.ndim != 2 or phenotypes.shape[1] != self.config.num_phenotypes:
            raise ValueError(
                f"phenotypes must have shape (B, {self.config.num_phenotypes}), given {tuple(phenotypes.shape)}."
            )
        dtype = torch.promote_types(phenotypes.dtype, torch.float32)
        mean, sd = (
            torch.tensor(values, dtype=dtype, device=phenotypes.device)
            for values in (self.config.phenotype_mean, self.config.phenotype_sd)
        )
        with torch.autocast(phenotypes.device.type, enabled=False):  # bfloat16 would round the phenotypes
            standardised = (phenotypes.to(dtype) - mean) / sd
            missing = standardised.isnan()
            weight_dtype = self.missing_phenotype_embedding.dtype
            condition = self.condition_projection(standardised.masked_fill(missing, 0.0).to(weight_dtype))
            condition = condition + missing.to(weight_dtype) @ self.missing_phenotype_embedding
        if drop_condition is None:
            drop_condition = missing.new_zeros(missing.shape[0])
        # Not indexed, so that the null embedding takes part in every training step, as DDP requires.
        return torch.where(drop_condition.bool().unsqueeze(1), self.null_condition_embedding, condition)

    def encode(self, tokens: torch.Tensor, visible: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Encodes condition and visible tokens.

        Args:
            tokens: (B, L, D).
            visible: (B, v), positions of the visible tokens.
            condition: (B, encoder_width).

        Returns:
            (B, num_condition_tokens + v, encoder_width), the condition tokens first.
        """
        num_condition_tokens = self.config.num_condition_tokens
        position_embedding = self.encoder_position_embedding
        hidden_states = self.token_projection(_take_rows(tokens, visible).to(self.token_projection.weight.dtype))
        hidden_states = hidden_states + F.embedding(visible + num_condition_tokens, position_embedding)
        condition_tokens = condition.unsqueeze(1) + position_embedding[:num_condition_tokens]
        hidden_states = self.embedding_norm(torch.cat([condition_tokens, hidden_states], dim=1))
        for layer in self.encoder_layers:
            hidden_states = layer(hidden_states)
        return self.encoder_norm(hidden_states)

    def decode(self, encoded: torch.Tensor, visible: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Decodes the tokens at some positions from the encoded visible ones.

        Args:
            encoded: (B, num_condition_tokens + v, encoder_width), from `encode`.
            visible: (B, v), positions of the visible tokens.
            positions: (B, n), positions of the tokens to decode.

        Returns:
            (B, n, decoder_width): `z` without its position embedding.
        """
        num_condition_tokens, num_tokens = self.config.num_condition_tokens, self.config.num_tokens
        hidden_states = self.decoder_projection(encoded).to(self.mask_token.dtype)
        condition_tokens, seen = hidden_states[:, :num_condition_tokens], hidden_states[:, num_condition_tokens:]
        hidden_states = self.mask_token.expand(encoded.shape[0] * num_tokens, -1)
        hidden_states = hidden_states.index_copy(0, _flat(visible, num_tokens), seen.flatten(0, 1))
        hidden_states = torch.cat([condition_tokens, hidden_states.unflatten(0, (-1, num_tokens))], dim=1)
        hidden_states = hidden_states + self.decoder_position_embedding
        for layer in self.decoder_layers[:-1]:
            hidden_states = layer(hidden_states)
        # The last layer only computes the requested tokens: no later layer attends to others.
        hidden_states = self.decoder_layers[-1](hidden_states, positions + num_condition_tokens)
        return self.decoder_norm(hidden_states)

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        latents: torch.Tensor,
        phenotypes: torch.Tensor,
        mask: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        drop_condition: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
        timesteps: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        return_loss: bool = True,
        output_hidden_states: bool | None = None,  # noqa: ARG002 (read by the decorator, as `return_dict` is)
        output_attentions: bool | None = None,  # noqa: ARG002
    ) -> CPGGMAROutput:
        r"""
        The loss of one training step, or (`return_loss=False`) only the vectors `z`. Missing arguments are drawn.

        Args:
            latents (`torch.Tensor`): standardised latents (B, C, T', H', W'), or their tokens (B, L, D).
            phenotypes (`torch.Tensor`): (B, num_phenotypes) in physical units, float32 or float64; NaN = missing.
            mask (`torch.Tensor`, *optional*): (B, L), nonzero = masked, the same number in each sample. Drawn
                by `draw_mask`. A mask on the CPU avoids a synchronisation with the device.
            positions (`torch.LongTensor`, *optional*): (B, n), the tokens to predict; the masked ones by default, in
                sequence order.
            drop_condition (`torch.Tensor`, *optional*): (B,), where the null embedding replaces the condition. Drawn
                with probability `condition_dropout` in training; False in evaluation.
            noise (`torch.Tensor`, *optional*): (B, timesteps_per_token, n, D), the noise of the diffusion loss.
            timesteps (`torch.Tensor`, *optional*): (B, timesteps_per_token, n), its timesteps: integers below
                `num_train_timesteps`, for a flow numbers from 0 to `num_train_timesteps`.
            generator (`torch.Generator`, *optional*): source of all draws.
            return_loss (`bool`, defaults to `True`): whether to compute the loss.
            output_hidden_states (`bool`, *optional*): whether to return the hidden states of all layers.
            output_attentions (`bool`, *optional*): whether to return the attention weights of all layers.

        Returns:
            [`CPGGMAROutput`], or a tuple of its fields that are not None for `return_dict=False`.

        Raises:
            ValueError: shapes that do not fit.
        """
        tokens = self.patchify(latents) if latents.ndim == 5 else latents
        expected = (phenotypes.shape[0], self.config.num_tokens, self.config.token_dim)
        if tuple(tokens.shape) != expected:
            raise ValueError(
                f"for {expected[0]} rows of phenotypes this model expects latents of shape "
                f"{(expected[0], self.config.latent_channels, *self.config.latent_size)} or tokens {expected}, "
                f"given {tuple(latents.shape)}."
            )
        batch_size, device = tokens.shape[0], tokens.device

        def draw(function: Callable[..., torch.Tensor], *arguments: Any, **options: Any) -> torch.Tensor:
            source = device if generator is None else generator.device
            return function(*arguments, generator=generator, device=source, **options).to(device)

        if mask is None:
            mask = self.draw_mask(batch_size, generator, device)
        visible, masked = (part.to(device) for part in self._split_positions(mask))
        if positions is None:
            positions = masked
        if drop_condition is None and self.training:
            drop_condition = draw(torch.rand, batch_size) < self.config.condition_dropout

        condition = self.embed_phenotypes(phenotypes, drop_condition)
        z = self.decode(self.encode(tokens, visible, condition), visible, positions)
        z = z + F.embedding(positions, self.diffusion_position_embedding)
        if not return_loss:
            return CPGGMAROutput(z=z, positions=positions)

        shape = (batch_size, self.config.timesteps_per_token, positions.shape[1])
        flow = self.config.head_type == "flow_matching"
        if timesteps is None and flow:
            timesteps = self.config.num_train_timesteps * draw(torch.rand, shape)
        elif timesteps is None:
            timesteps = draw(torch.randint, self.config.num_train_timesteps, shape)
        if noise is None:
            noise = draw(torch.randn, (*shape, self.config.token_dim))
        targets = _take_rows(tokens, positions)
        drawn = (targets.unsqueeze(1), z.unsqueeze(1), noise, timesteps)
        if flow:
            loss = token_flow_loss(self.diffusion_head, *drawn).mean()
            return CPGGMAROutput(loss=loss, loss_mse=loss, z=z, positions=positions)
        mse, vlb = token_diffusion_loss(self.diffusion_head, *drawn)
        loss_mse, loss_vlb = mse.mean(), vlb.mean()
        return CPGGMAROutput(loss=loss_mse + loss_vlb, loss_mse=loss_mse, loss_vlb=loss_vlb, z=z, positions=positions)

    def _split_positions(self, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions of the visible and of the masked tokens, each in sequence order: (B, v), (B, L - v)."""
        mask = mask.bool()
        num_masked = mask.sum(dim=1)
        if (num_masked != num_masked[0]).any():
            raise ValueError(f"mask must hide the same number of tokens in each sample, given {num_masked.tolist()}.")
        ranks = mask.long().argsort(dim=1, stable=True)
        num_visible = mask.shape[1] - int(num_masked[0])
        return ranks[:, :num_visible], ranks[:, num_visible:]

    def check_scheduler(self, scheduler: Any) -> None:
        """Checks that a scheduler removes noise as the head was trained to estimate it.

        Raises:
            ValueError: it does not; see `cpgg_hf.models.token_diffusion.check_scheduler`.
        """
        check_scheduler(self.config.head_type, scheduler, self.config.num_train_timesteps)

    @torch.no_grad()
    def generate_latents(
        self,
        phenotypes: torch.Tensor,
        scheduler: Any,
        num_decoding_steps: int = 16,
        num_inference_steps: int = 100,
        guidance_scale: float | Guidance = 1.0,
        temperature: float = 1.0,
        generators: list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        callback: Callable[[int, torch.Tensor], dict[str, Any] | None] | None = None,
    ) -> torch.Tensor:
        r"""
        Draws latents by iterative decoding: a random order per sample, a cosine schedule, a diffusion chain per token.

        All randomness of sample i comes from `generators[i]`.

        Args:
            phenotypes (`torch.Tensor`): (B, num_phenotypes) in physical units, NaN = missing, on the model's device.
            scheduler: a diffusers scheduler; see `sample_tokens`.
            num_decoding_steps (`int`, defaults to 16): passes of the transformer, at most one per token.
            num_inference_steps (`int`, defaults to 100): diffusion steps per token.
            guidance_scale (`float` or [`Guidance`], defaults to 1.0): 1 = no guidance, 0 = unconditional, or a rule.
            temperature (`float`, defaults to 1.0): scale of the noise added in the diffusion steps.
            generators (`list[torch.Generator]`, *optional*): one per sample; torch's global generator by default.
            latents (`torch.Tensor`, *optional*): (B, C, T', H', W'), the noise that the diffusion starts from.
            callback (`Callable`, *optional*): called after each decoding step with its number and the latents so far
                (zero where nothing has been drawn). It may return a dict: `"latents"` replaces the latents,
                `"guidance_scale"` the guidance of the remaining decoding steps.

        Returns:
            (B, C, T', H', W') float32, standardised.

        Raises:
            ValueError: arguments that do not fit the model or each other.
        """
        config, device, batch_size = self.config, phenotypes.device, phenotypes.shape[0]
        guidance = as_guidance(guidance_scale)
        sources = [None] * batch_size if generators is None else generators
        if len(sources) != batch_size:
            raise ValueError(f"generators must be one per sample, given {len(sources)} for {batch_size} samples.")
        token_counts = decoding_schedule(config.num_tokens, num_decoding_steps)
        self.check_scheduler(scheduler)

        def draw(function: Callable[..., torch.Tensor], argument: Any) -> torch.Tensor:
            drawn = [function(argument, generator=g, device="cpu" if g is None else g.device) for g in sources]
            return torch.stack([sample.to(device) for sample in drawn])

        orders = draw(torch.randperm, config.num_tokens)
        if latents is None:
            latents = draw(torch.randn, (config.latent_channels, *config.latent_size))
        start = self.patchify(latents.to(device, torch.float32))

        tokens = torch.zeros_like(start)
        mask = torch.ones(start.shape[:2], dtype=torch.bool, device=device)
        num_masked = config.num_tokens
        for step, count in enumerate(token_counts):
            positions = orders[:, num_masked - count : num_masked]
            num_masked -= count
            set_inference_timesteps(config.head_type, scheduler, num_inference_steps)
            num_steps = len(scheduler.timesteps)
            conditional, unconditional = guidance.passes(
                GuidanceStep(step, num_decoding_steps, index, num_steps) for index in range(num_steps)
            )
            conditions = [(phenotypes, mask.new_zeros(batch_size))] if conditional else []
            if unconditional:
                conditions.append(guidance.unconditional(phenotypes))
            rows, drop_condition = (torch.cat(part) for part in zip(*conditions, strict=True))
            repeats = (len(conditions), 1)
            z = self(
                tokens.repeat(*repeats, 1),
                rows,
                mask=mask.repeat(repeats),
                positions=positions.repeat(repeats),
                drop_condition=drop_condition,
                return_loss=False,
                return_dict=True,
            ).z
            noise = _take_rows(start, positions) * getattr(scheduler, "init_noise_sigma", 1.0)
            drawn = sample_tokens(
                self.diffusion_head, z, noise, scheduler, sources, guidance, temperature, step, num_decoding_steps
            )
            tokens = tokens.scatter(1, positions.unsqueeze(-1).expand_as(drawn), drawn)
            mask = mask.scatter(1, positions, False)
            changes = (callback(step, self.unpatchify(tokens)) if callback is not None else None) or {}
            if "latents" in changes:
                tokens = self.patchify(changes["latents"])
            if "guidance_scale" in changes:
                guidance = as_guidance(changes["guidance_scale"])
        return self.unpatchify(tokens)


__all__ = ["CPGGMARModel", "CPGGMAROutput"]
