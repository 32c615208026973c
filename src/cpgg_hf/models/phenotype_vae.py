"""The phenotype VAE of CPGG (arXiv 2505.03426, section 2.1): samples the 82 phenotypes that condition a cine.

The network is the published one: blocks of Linear, BatchNorm and LeakyReLU, 82-128-128-128 to 32 latents and back,
trained on mean squared error + `kl_weight` x KL. Published sampling decodes z ~ N(0, I). Such samples are too smooth
(each phenotype's independent variation is missing) and no value can be fixed, so `fit_sampler` completes a trained
model without changing a weight:

- the latents of the training set are modelled by one Gaussian per group of subjects instead of N(0, I), and
- the decoder's output is mapped by one linear regression, with the mean and full covariance of its residuals per
  group, to coordinates in which every sample is a possible heart (`cpgg_hf.phenotypes.coordinates`: identities and
  inequalities hold by construction).

So p(coordinates) = sum_k pi_k integral N(z; mu_k, P_k) N(coordinates; b_k + decoder(z) A, S_k) dz. Conditional samples
are Bayesian inference in this model: in each group the decoder is replaced by its regression on the group's latents
(statistical linearisation), so that group and z given the fixed values are a Gaussian mixture; z drawn from it is
decoded by the network, and given z and the fixed values the free coordinates are Gaussian. This is exact where the
decoder is linear within a group.

Rejected alternatives: a Gaussian copula (quantile-transformed marginals) distorts the relations in the diseased tail,
where at LVEF = 30 % the means of the other phenotypes were wrong by 0.46 sd on average. Linearising with the unscented
transform evaluates the decoder 5.7 sd from the mean, far from any training row, and was wrong by as much; importance
weights correct that at several times the cost. This method is wrong by 0.13 sd there, on 8,000 phantoms.
"""

import os
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import nn

from cpgg_hf.hub.mixin import HubPolicyMixin
from cpgg_hf.models.gaussian import kl_to_standard_normal
from cpgg_hf.models.generators import given_generators
from cpgg_hf.phenotypes import NAMES, PHENOTYPES, as_array, complete_identities, enforce_identities
from cpgg_hf.phenotypes.coordinates import (
    COORDINATES,
    all_charts,
    chart_for,
    from_chart,
    from_unbounded,
    to_coordinates,
    to_unbounded,
)
from cpgg_hf.phenotypes.identities import AORTAS, CHAMBERS

ROWS_PER_COMPONENT = 50  # that the mixture of latents needs


@dataclass
class CPGGPhenotypeVAEOutput(BaseOutput):
    """Output of `CPGGPhenotypeVAE.forward`.

    Args:
        reconstruction: (B, 82) standardised phenotypes.
        loss: scalar, `reconstruction_loss + kl_weight * kl_loss`.
        reconstruction_loss: scalar, mean squared error of the standardised phenotypes.
        kl_loss: scalar, KL divergence to N(0, I), summed over latents, mean over the batch.
        mean: (B, latent_dim) of the posterior.
        logvar: (B, latent_dim) of the posterior.
    """

    reconstruction: torch.Tensor
    loss: torch.Tensor
    reconstruction_loss: torch.Tensor
    kl_loss: torch.Tensor
    mean: torch.Tensor
    logvar: torch.Tensor


class CPGGPhenotypeVAE(HubPolicyMixin, ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Variational autoencoder of phenotype vectors, with its scaler; all interfaces use physical units.

    `CPGGPhenotypeVAE.from_phenotypes(phenotypes)` sets the scaler, `model(phenotypes).loss` is the training loss,
    and `model.fit_sampler(phenotypes)` ends training; then `sample` and `sample_conditional` draw from the learned
    joint distribution. The defaults are the published network.

    Args:
        phenotype_mean: 82 means in physical units; None = the schema's.
        phenotype_sd: 82 standard deviations in physical units; None = the schema's.
        coordinate_mean: 85 means of the sampler's unbounded coordinates, set by `fit_sampler`.
        coordinate_sd: 85 standard deviations of the same.
        hidden_dims: widths of the encoder's blocks; the decoder mirrors them.
        latent_dim: number of latents.
        kl_weight: weight of the KL term (published: 0.01 to 0.05).
        num_mixture_components: number of Gaussians of the latents in `fit_sampler`.
        sampler_fitted: set by `fit_sampler`; without it `sample` decodes z ~ N(0, I) as published.
        data_policy: policy of the training data; None = restricted.
    """

    config: Any  # attributes are the arguments above

    @register_to_config
    def __init__(
        self,
        phenotype_mean: list[float] | None = None,
        phenotype_sd: list[float] | None = None,
        coordinate_mean: list[float] | None = None,  # noqa: ARG002 - read from the config
        coordinate_sd: list[float] | None = None,  # noqa: ARG002 - read from the config
        hidden_dims: tuple[int, ...] = (128, 128, 128),
        latent_dim: int = 32,
        kl_weight: float = 0.01,  # noqa: ARG002 - read from the config
        num_mixture_components: int = 8,
        sampler_fitted: bool = False,  # noqa: ARG002 - read from the config
        data_policy: str | None = None,  # noqa: ARG002 - read from the config
    ) -> None:
        super().__init__()
        self.register_to_config(
            phenotype_mean=[item.mean for item in PHENOTYPES] if phenotype_mean is None else list(phenotype_mean),
            phenotype_sd=[item.sd for item in PHENOTYPES] if phenotype_sd is None else list(phenotype_sd),
        )
        self.encoder = _blocks([len(NAMES), *hidden_dims])
        self.latent_mean = nn.Linear(hidden_dims[-1], latent_dim)
        self.latent_logvar = nn.Linear(hidden_dims[-1], latent_dim)
        self.decoder_input = nn.Linear(latent_dim, hidden_dims[-1])
        self.decoder = _blocks([*reversed(hidden_dims), len(NAMES)])
        self.decoder_output = nn.Linear(len(NAMES), len(NAMES))

        # Per group: latents and their decoded values (L + 82); coordinates = means + decoded @ slopes + noise.
        groups, joint, coordinates = num_mixture_components, latent_dim + len(NAMES), len(COORDINATES)
        self.register_buffer("mixture_weights", torch.full((groups,), 1 / groups))
        self.register_buffer("mixture_means", torch.zeros(groups, joint))
        self.register_buffer("mixture_covariances", torch.eye(latent_dim, joint).repeat(groups, 1, 1))
        self.register_buffer("residual_means", torch.zeros(groups, coordinates))
        self.register_buffer("residual_slopes", torch.zeros(len(NAMES), coordinates))
        self.register_buffer("residual_covariances", torch.zeros(groups, coordinates, coordinates))

    # Covariances rounded to 16 bits may be indefinite, so the model keeps float32 however it is loaded or cast.
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, **options: Any) -> Any:
        """Loads a model in float32, whatever dtype is given; see [`~diffusers.ModelMixin.from_pretrained`]."""
        options = {**options, "torch_dtype": torch.float32}
        options.pop("dtype", None)
        return super().from_pretrained(pretrained_model_name_or_path, **options)

    def _apply(self, fn, recurse: bool = True):
        def apply(tensor: torch.Tensor) -> torch.Tensor:
            applied = fn(tensor)
            return applied if applied.dtype == tensor.dtype else tensor.to(applied.device)

        return super()._apply(apply, recurse)

    @classmethod
    def from_phenotypes(cls, phenotypes: np.ndarray, **config) -> "CPGGPhenotypeVAE":
        """Creates a model whose scaler is fitted to the training set.

        Args:
            phenotypes: (N, 82) complete training vectors in physical units, in any form that `as_array` accepts.
            config: the other arguments of the constructor.

        Raises:
            PhenotypeError: the table cannot be read, or a row contradicts itself (ESV above EDV, identities).
            ValueError: values are missing, or a phenotype is constant.
        """
        array = _complete(phenotypes)
        coordinates = to_unbounded(to_coordinates(array))
        constant = np.flatnonzero(coordinates.std(axis=0) < 1e-9)
        if len(constant):
            raise ValueError(
                f"{COORDINATES[constant[0]]} is constant in all {len(array)} rows; give rows that differ."
            )
        return cls(
            phenotype_mean=array.mean(axis=0).tolist(),
            phenotype_sd=array.std(axis=0).tolist(),
            **config,
        )

    def encode(self, standardised: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Standardised phenotypes (B, 82) -> mean and logvar of the posterior, (B, latent_dim) each."""
        hidden = self.encoder(standardised)
        return self.latent_mean(hidden), self.latent_logvar(hidden)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (B, latent_dim) -> standardised phenotypes (B, 82)."""
        return self.decoder_output(self.decoder(self.decoder_input(latents)))

    def forward(
        self, phenotypes: torch.Tensor, noise: torch.Tensor | None = None, return_dict: bool = True
    ) -> CPGGPhenotypeVAEOutput | tuple[torch.Tensor, ...]:
        """The reconstruction and the training loss.

        Args:
            phenotypes: (B, 82), complete, in physical units.
            noise: (B, latent_dim), standard normal, for the posterior's draw; default: torch's global one.
            return_dict: whether to return a `CPGGPhenotypeVAEOutput` or the tuple of its fields.
        """
        standardised = self._standardise(phenotypes)
        mean, logvar = self.encode(standardised)
        noise = torch.randn_like(mean) if noise is None else noise
        reconstruction = self.decode(mean + torch.exp(0.5 * logvar) * noise)
        reconstruction_loss = nn.functional.mse_loss(reconstruction, standardised)
        kl_loss = kl_to_standard_normal(mean, logvar).sum(dim=1).mean()
        output = CPGGPhenotypeVAEOutput(
            loss=reconstruction_loss + self.config.kl_weight * kl_loss,
            reconstruction_loss=reconstruction_loss,
            kl_loss=kl_loss,
            reconstruction=reconstruction,
            mean=mean,
            logvar=logvar,
        )
        return output if return_dict else output.to_tuple()

    @torch.no_grad()
    def fit_sampler(self, phenotypes: np.ndarray, seed: int = 0) -> None:
        """Fits the distribution of latents and residuals, which completes the model for sampling.

        Args:
            phenotypes: (N, 82) complete training vectors in physical units, at least `ROWS_PER_COMPONENT` rows per
                mixture component.
            seed: seed of the posterior draws and of the mixture's initialisation.

        Raises:
            ValueError: too few rows, missing values, or a mixture component without rows.
        """
        from sklearn.mixture import GaussianMixture

        components = self.config.num_mixture_components
        array = _complete(phenotypes)
        if len(array) < ROWS_PER_COMPONENT * components:
            raise ValueError(
                f"{components} mixture components need at least {ROWS_PER_COMPONENT * components} rows, "
                f"given {len(array)}."
            )
        unbounded = to_unbounded(to_coordinates(array))
        self.register_to_config(
            coordinate_mean=unbounded.mean(axis=0).tolist(), coordinate_sd=unbounded.std(axis=0).tolist()
        )
        coordinates = torch.from_numpy(self._scale(unbounded))

        self.eval()
        generator = torch.Generator().manual_seed(seed)
        mean, logvar = (part.cpu().double() for part in self.encode(self._standardise(torch.from_numpy(array))))
        latents = mean + torch.exp(0.5 * logvar) * torch.randn(mean.shape, generator=generator, dtype=torch.float64)
        decoded = self._double_decoder()(latents)

        # Groups (healthy, dilated, ...) are separated in the coordinates, where they differ more than in the latents.
        chart = coordinates[:, next(all_charts())].numpy()
        mixture = GaussianMixture(components, reg_covar=1e-4, random_state=seed).fit(chart)
        assigned = torch.multinomial(torch.from_numpy(mixture.predict_proba(chart)), 1, generator=generator)[:, 0]
        if len(assigned.unique()) < components:
            raise ValueError(f"some of the {components} mixture components have no rows; use fewer components.")

        deviations = decoded - _group_means(decoded, assigned)[assigned]
        # The ridge fixes directions in which the decoder does not vary.
        ridge = 1e-4 * len(array) * torch.eye(len(NAMES), dtype=torch.float64)
        slopes = torch.linalg.solve(deviations.T @ deviations + ridge, deviations.T @ coordinates)
        residuals = coordinates - decoded @ slopes
        joint = torch.cat([latents, decoded], dim=1)
        self.mixture_weights.copy_(torch.bincount(assigned) / len(array))
        self.mixture_means.copy_(_group_means(joint, assigned))
        self.mixture_covariances.copy_(_group_covariances(joint, assigned)[:, : latents.shape[1]])
        self.residual_means.copy_(_group_means(residuals, assigned))
        self.residual_slopes.copy_(slopes)
        self.residual_covariances.copy_(_group_covariances(residuals, assigned))
        self.register_to_config(sampler_fitted=True)

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator | list[torch.Generator] | None = None) -> np.ndarray:
        """Samples phenotype vectors from the learned distribution.

        Args:
            num_samples: number of rows.
            generator: a list with one per row; or one generator, which draws the first row and seeds of the others;
                None = torch's global generator. A row only depends on its own generator, bit for bit.

        Returns:
            (num_samples, 82) float64 in physical units; the nine identities hold exactly.
        """
        return self.sample_conditional(np.full((num_samples, len(NAMES)), np.nan), generator)

    @torch.no_grad()
    def sample_conditional(
        self, fixed: np.ndarray, generator: torch.Generator | list[torch.Generator] | None = None
    ) -> np.ndarray:
        """Samples the missing phenotypes from the learned distribution, given the fixed ones.

        Args:
            fixed: (B, 82) in any form that `as_array` accepts; NaN = free. Derived ones can be fixed as well.
            generator: as for `sample`.

        Returns:
            (B, 82) float64 in physical units. Fixed values and the nine identities hold exactly; of redundant values
            that only agree within rounding, the derived ones are replaced.

        Raises:
            PhenotypeError: contradictory or impossible values, or a wrong unit.
            ValueError: values are fixed but `fit_sampler` was never called; a list of generators of another length.
        """
        given = as_array(fixed)
        completed = complete_identities(given)
        generators = _generators(generator, len(given))
        if not self.config.sampler_fitted:
            if np.isfinite(given).any():
                raise ValueError(
                    "fixing values needs a fitted sampler; call fit_sampler(training_phenotypes), then save the model."
                )
            return self._sample_as_published(generators)
        sampler = _Sampler(self)
        rows = [self._draw(sampler, row, own) for row, own in zip(completed, generators, strict=True)]
        result = np.concatenate(rows)
        # An identity solved for another variable may miss a fixed value by the last bit.
        kept = np.isclose(result, given, rtol=1e-11, atol=0)
        return np.where(kept, given, enforce_identities(np.where(kept, given, result)))

    def _sample_as_published(self, generators: Iterable[torch.Generator]) -> np.ndarray:
        decoder = self._double_decoder()
        decoded = torch.cat([decoder(_normal((1, self.config.latent_dim), own)) for own in generators]).numpy()
        mean, sd = np.array(self.config.phenotype_mean), np.array(self.config.phenotype_sd)
        return enforce_identities(_possible(decoded * sd + mean))

    def _draw(self, sampler: "_Sampler", completed: np.ndarray, generator: torch.Generator) -> np.ndarray:
        chart, fixed = chart_for(completed)
        scaled = self._scale(to_unbounded(fixed[None]))[0]
        observed = tuple(index for index in chart if np.isfinite(scaled[index]))
        free = tuple(index for index in chart if not np.isfinite(scaled[index]))
        drawn = sampler.draw(torch.from_numpy(scaled), observed, free, generator)
        values = from_unbounded(self._unscale(drawn[None].numpy()))
        coordinates = np.full((1, len(COORDINATES)), np.nan)
        coordinates[0, free] = values[0, free]
        coordinates[0, observed] = fixed[list(observed)]
        return from_chart(coordinates)

    def _standardise(self, phenotypes: torch.Tensor) -> torch.Tensor:
        array = phenotypes.detach().cpu().double().numpy()
        if array.ndim != 2 or array.shape[1] != len(NAMES) or not np.isfinite(array).all():
            raise ValueError(
                f"phenotypes must be complete vectors (B, {len(NAMES)}) without NaN, given shape {array.shape}."
            )
        standardised = (array - np.array(self.config.phenotype_mean)) / np.array(self.config.phenotype_sd)
        return torch.from_numpy(standardised).to(self.device, self.dtype)

    def _double_decoder(self) -> nn.Module:
        """A float64 copy of the decoder on the CPU: the same bits for any device and alignment of the weights."""
        decoder = nn.Sequential(self.decoder_input, self.decoder, self.decoder_output)
        return deepcopy(decoder).to(device="cpu", dtype=torch.float64).eval()

    def _scale(self, unbounded: np.ndarray) -> np.ndarray:
        return (unbounded - np.array(self.config.coordinate_mean)) / np.array(self.config.coordinate_sd)

    def _unscale(self, scaled: np.ndarray) -> np.ndarray:
        return scaled * np.array(self.config.coordinate_sd) + np.array(self.config.coordinate_mean)


@dataclass
class _Gains:
    """Terms of conditioning that do not depend on the values: K groups, L latents, O observed, F free."""

    predicted: torch.Tensor  # (K, O) mean of the observed coordinates
    errors: torch.Tensor  # (K, O, O) Cholesky factor of their covariance
    latents: torch.Tensor  # (K, L, O) regression of z on them
    latent_factors: torch.Tensor  # (K, L, L) Cholesky factor of z given them
    noises: torch.Tensor  # (K, F, O) regression of the free coordinates' residual on theirs
    noise_factors: torch.Tensor  # (K, F, F) Cholesky factor of its remaining covariance


class _Sampler:
    """Draws from the mixture that `fit_sampler` stored, with or without some coordinates observed; float64 on CPU."""

    def __init__(self, model: CPGGPhenotypeVAE) -> None:
        self.decode = model._double_decoder()
        num_latents = model.config.latent_dim
        self.log_weights = model.mixture_weights.cpu().double().log()
        self.means, decoded_means = model.mixture_means.cpu().double().tensor_split([num_latents], dim=1)
        self.covariances, covariances_with_decoded = (
            model.mixture_covariances.cpu().double().tensor_split([num_latents], dim=2)
        )
        self.offsets = model.residual_means.cpu().double()
        self.slopes = model.residual_slopes.cpu().double()
        self.noises = model.residual_covariances.cpu().double()
        # Statistical linearisation: coordinates have this mean in a group, and this covariance with z.
        self.coordinate_means = self.offsets + decoded_means @ self.slopes
        self.cross_covariances = covariances_with_decoded @ self.slopes
        self.gains: dict[tuple[tuple[int, ...], ...], _Gains] = {}

    def draw(
        self, values: torch.Tensor, observed: tuple[int, ...], free: tuple[int, ...], generator: torch.Generator
    ) -> torch.Tensor:
        """Scaled coordinates (85,) with `free` drawn given `values[observed]`."""
        if (observed, free) not in self.gains:
            self.gains[observed, free] = self._gains(list(observed), list(free))
        gains = self.gains[observed, free]
        given, unknown = values[list(observed)], list(free)
        errors = (given - gains.predicted)[:, :, None]
        group = _categorical(self.log_weights + _log_normal(errors, gains.errors), generator)

        noise = gains.latent_factors[group] @ _normal(self.means.shape[1], generator)
        latents = self.means[group] + gains.latents[group] @ errors[group, :, 0] + noise
        center = self.offsets[group] + self.decode(latents[None])[0] @ self.slopes

        noise = gains.noise_factors[group] @ _normal(len(free), generator)
        result = values.clone()
        result[unknown] = center[unknown] + gains.noises[group] @ (given - center[list(observed)]) + noise
        return result

    def _gains(self, observed: list[int], free: list[int]) -> _Gains:
        cross = self.cross_covariances[:, :, observed]
        noises, noises_with_free = self.noises[:, observed][:, :, observed], self.noises[:, observed][:, :, free]
        linear = cross.mT @ torch.cholesky_solve(cross, _cholesky(self.covariances))
        errors = _cholesky(linear + noises)
        latent_gains = torch.cholesky_solve(cross.mT, errors).mT
        noise_gains = torch.cholesky_solve(noises_with_free, _cholesky(noises)).mT
        return _Gains(
            predicted=self.coordinate_means[:, observed],
            errors=errors,
            latents=latent_gains,
            latent_factors=_cholesky(self.covariances - latent_gains @ cross.mT),
            noises=noise_gains,
            noise_factors=_cholesky(self.noises[:, free][:, :, free] - noise_gains @ noises_with_free),
        )


def _blocks(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, next_width in pairwise(widths):
        layers += [nn.Linear(width, next_width), nn.BatchNorm1d(next_width), nn.LeakyReLU()]
    return nn.Sequential(*layers)


def _group_means(rows: torch.Tensor, assigned: torch.Tensor) -> torch.Tensor:
    return torch.stack([rows[assigned == group].mean(dim=0) for group in range(int(assigned.max()) + 1)])


def _group_covariances(rows: torch.Tensor, assigned: torch.Tensor) -> torch.Tensor:
    """Covariance of each group, shrunk to the pooled one as if by one more row per coordinate."""
    deviations = rows - _group_means(rows, assigned)[assigned]
    prior_rows = len(COORDINATES)
    pooled = deviations.T @ deviations / len(rows)
    own = [deviations[assigned == group] for group in range(int(assigned.max()) + 1)]
    return torch.stack([(part.T @ part + prior_rows * pooled) / (len(part) + prior_rows) for part in own])


def _complete(phenotypes: np.ndarray) -> np.ndarray:
    array = as_array(phenotypes)
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(f"row {row} lacks {NAMES[column]}; train on complete rows.")
    return complete_identities(array)


def _possible(decoded: np.ndarray) -> np.ndarray:
    """Clips decoded phenotypes (B, 82) to possible hearts: no change of sign, largest above smallest volume."""
    limits = np.array([1e-3 * phenotype.mean for phenotype in PHENOTYPES])
    result = np.where(limits > 0, np.maximum(decoded, limits), np.minimum(decoded, limits))
    for largest, smallest, *_ in (*CHAMBERS, *AORTAS):
        result[:, smallest] = np.minimum(result[:, smallest], 0.99 * result[:, largest])
    return result


def _generators(generator: Any, num_rows: int) -> Iterator[torch.Generator]:
    """One generator per row. The further ones of a single generator are seeded after it has drawn the first row."""
    given = given_generators(generator, num_rows)
    yield from given
    source = given[0] if given else torch.default_generator
    for seed in torch.randint(2**63 - 1, (num_rows - len(given),), generator=source, device=source.device).tolist():
        yield torch.Generator().manual_seed(seed)


def _normal(shape: int | tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64).cpu()


def _uniform(generator: torch.Generator) -> torch.Tensor:
    return torch.rand((), generator=generator, device=generator.device, dtype=torch.float64).cpu()


def _categorical(log_weights: torch.Tensor, generator: torch.Generator) -> int:
    cumulative = torch.softmax(log_weights, dim=0).cumsum(0)
    return int(torch.searchsorted(cumulative, _uniform(generator)).clamp(max=len(log_weights) - 1))


def _cholesky(covariance: torch.Tensor) -> torch.Tensor:
    # Near-identities (a global strain is almost the mean of its segments) leave covariances that float32 storage can
    # make indefinite; 1e-6 of a standardised variance is far below any measurement error.
    return torch.linalg.cholesky(covariance + 1e-6 * torch.eye(covariance.shape[-1], dtype=covariance.dtype))


def _log_normal(errors: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Log N(error; 0, factor factor^T) up to (2 pi)^(-d/2): errors (K, d, 1), factors (K, d, d) -> (K,)."""
    squares = torch.linalg.solve_triangular(factors, errors, upper=False).square().sum(dim=(1, 2))
    return -0.5 * squares - factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)
