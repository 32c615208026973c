"""The phenotype VAE of CPGG (arXiv 2505.03426, section 2.1): draws the 82 phenotypes that a cine is generated from.

The network is the published one: blocks of Linear, BatchNorm and LeakyReLU, 82-128-128-128 to 32 latents and back,
trained on mean squared error + `kl_weight` x KL. Published sampling decodes z ~ N(0, I). Such draws are too smooth
(every phenotype's independent part is missing) and no value can be fixed, so `fit_sampler` completes a trained model
without changing a weight:

- the latents of the training set are described by one Gaussian a group of subjects instead of N(0, I), and
- what the decoder leaves over by one linear regression on z with full covariance a group, in coordinates in which
  every draw is a possible heart (`cpgg_hf.phenotypes.coordinates`: identities and inequalities hold by construction).

So p(phenotypes) = sum_k pi_k integral N(z; mu_k, P_k) N(coordinates; c_k(z), S_k) dz with
c_k(z) = decoder(z) + b_k + A_k (z - mu_k). Conditional sampling is Bayesian inference in it: the decoder is linearised
around each group (unscented transform), which gives a Gaussian mixture for the latents given the fixed values;
draws from that are weighted by the exact posterior and one is taken (sampling importance resampling); given it, the
free coordinates are Gaussian. A Gaussian copula (quantile-transformed marginals) was tried and left: it bends the
relations in the diseased tail, where at LVEF = 30 % the means of the other phenotypes were off by 0.46 sd on average.
"""

from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import nn

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


@dataclass
class CPGGPhenotypeVAEOutput(BaseOutput):
    """What `CPGGPhenotypeVAE.forward` returns.

    Args:
        loss: scalar, `reconstruction_loss + kl_weight * kl_loss`.
        reconstruction_loss: scalar, mean squared error of the standardised features.
        kl_loss: scalar, KL divergence to N(0, I), summed over latents, mean over the batch.
        reconstruction: (B, F) standardised features.
        mean: (B, latent_dim) of the posterior.
        logvar: (B, latent_dim) of the posterior.
    """

    loss: torch.Tensor
    reconstruction_loss: torch.Tensor
    kl_loss: torch.Tensor
    reconstruction: torch.Tensor
    mean: torch.Tensor
    logvar: torch.Tensor


class CPGGPhenotypeVAE(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Variational autoencoder of phenotype vectors, with its scaler; all interfaces speak physical units.

    `CPGGPhenotypeVAE.from_phenotypes(phenotypes)` sets the scaler, `model(phenotypes).loss` is what training
    minimises, `model.fit_sampler(phenotypes)` ends it; then `sample` and `sample_conditional` draw from the learned
    joint distribution. The defaults are the published network.

    Args:
        phenotype_mean: 82 means in physical units; None takes the schema's.
        phenotype_sd: 82 standard deviations in physical units; None takes the schema's.
        coordinate_mean: 85 means of the unbounded coordinates (`from_phenotypes` sets them); None does not scale.
        coordinate_sd: 85 standard deviations of the unbounded coordinates; None does not scale.
        features: what the network sees, standardised: the 82 `"phenotypes"` (published), or the 85 unbounded
            `"coordinates"`, in which nothing that is decoded has to be cut to a possible heart.
        hidden_dims: widths of the encoder's blocks; the decoder mirrors them.
        latent_dim: number of latents.
        kl_weight: weight of the KL term (published: 0.01 to 0.05).
        num_mixture_components: Gaussians that `fit_sampler` describes the latents with.
        sampler_fitted: set by `fit_sampler`; without it `sample` decodes z ~ N(0, I) as published.
    """

    config: Any  # attributes are the arguments above

    @register_to_config
    def __init__(
        self,
        phenotype_mean: list[float] | None = None,
        phenotype_sd: list[float] | None = None,
        coordinate_mean: list[float] | None = None,
        coordinate_sd: list[float] | None = None,
        features: Literal["phenotypes", "coordinates"] = "phenotypes",
        hidden_dims: tuple[int, ...] = (128, 128, 128),
        latent_dim: int = 32,
        kl_weight: float = 0.01,  # noqa: ARG002 - read from the config
        num_mixture_components: int = 8,
        sampler_fitted: bool = False,  # noqa: ARG002 - read from the config
    ) -> None:
        super().__init__()
        if features not in ("phenotypes", "coordinates"):
            raise ValueError(f"features = {features!r}: expected 'phenotypes' or 'coordinates'")
        if features == "coordinates" and (coordinate_mean is None or coordinate_sd is None):
            raise ValueError("features = 'coordinates' needs coordinate_mean and coordinate_sd: use from_phenotypes")
        components, coordinates = num_mixture_components, len(COORDINATES)
        self.register_to_config(
            phenotype_mean=[item.mean for item in PHENOTYPES] if phenotype_mean is None else list(phenotype_mean),
            phenotype_sd=[item.sd for item in PHENOTYPES] if phenotype_sd is None else list(phenotype_sd),
            coordinate_mean=[0.0] * coordinates if coordinate_mean is None else list(coordinate_mean),
            coordinate_sd=[1.0] * coordinates if coordinate_sd is None else list(coordinate_sd),
        )
        num_features = len(NAMES) if features == "phenotypes" else len(COORDINATES)
        self.encoder = _blocks([num_features, *hidden_dims])
        self.latent_mean = nn.Linear(hidden_dims[-1], latent_dim)
        self.latent_logvar = nn.Linear(hidden_dims[-1], latent_dim)
        self.decoder_input = nn.Linear(latent_dim, hidden_dims[-1])
        self.decoder = _blocks([*reversed(hidden_dims), num_features])
        self.decoder_output = nn.Linear(num_features, num_features)

        self.register_buffer("mixture_weights", torch.full((components,), 1 / components))
        self.register_buffer("mixture_means", torch.zeros(components, latent_dim))
        self.register_buffer("mixture_covariances", torch.eye(latent_dim).repeat(components, 1, 1))
        self.register_buffer("residual_means", torch.zeros(components, coordinates))
        self.register_buffer("residual_slopes", torch.zeros(components, latent_dim, coordinates))
        self.register_buffer("residual_covariances", torch.zeros(components, coordinates, coordinates))

    @classmethod
    def from_phenotypes(cls, phenotypes: np.ndarray, **config) -> "CPGGPhenotypeVAE":
        """A new model whose scaler is fitted to the training set.

        Args:
            phenotypes: (N, 82) complete training vectors in physical units (anything `as_array` reads).
            config: the other arguments of the constructor.

        Raises:
            PhenotypeError: the table cannot be read, or a row contradicts itself (ESV above EDV, identities).
            ValueError: values are missing, or a phenotype is constant.
        """
        array = _complete(phenotypes)
        coordinates = to_unbounded(to_coordinates(array))
        constant = np.flatnonzero(coordinates.std(axis=0) < 1e-9)
        if len(constant):
            raise ValueError(f"{COORDINATES[constant[0]]} is the same in all {len(array)} rows: nothing to learn from")
        return cls(
            phenotype_mean=array.mean(axis=0).tolist(),
            phenotype_sd=array.std(axis=0).tolist(),
            coordinate_mean=coordinates.mean(axis=0).tolist(),
            coordinate_sd=coordinates.std(axis=0).tolist(),
            **config,
        )

    def encode(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Standardised features (B, F) -> mean and logvar of the posterior, (B, latent_dim) each."""
        hidden = self.encoder(features)
        return self.latent_mean(hidden), self.latent_logvar(hidden)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (B, latent_dim) -> standardised features (B, F)."""
        return self.decoder_output(self.decoder(self.decoder_input(latents)))

    def forward(self, phenotypes: torch.Tensor) -> CPGGPhenotypeVAEOutput:
        """The training loss of (B, 82) complete phenotypes in physical units; noise from torch's global generator."""
        features = self._to_features(phenotypes)
        mean, logvar = self.encode(features)
        reconstruction = self.decode(mean + torch.exp(0.5 * logvar) * torch.randn_like(mean))
        reconstruction_loss = nn.functional.mse_loss(reconstruction, features)
        kl_loss = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=1).mean()
        return CPGGPhenotypeVAEOutput(
            loss=reconstruction_loss + self.config.kl_weight * kl_loss,
            reconstruction_loss=reconstruction_loss,
            kl_loss=kl_loss,
            reconstruction=reconstruction,
            mean=mean,
            logvar=logvar,
        )

    @torch.no_grad()
    def fit_sampler(self, phenotypes: np.ndarray, seed: int = 0) -> None:
        """Describe the latents and residuals of the training set, which completes the model for sampling.

        Args:
            phenotypes: (N, 82) complete training vectors in physical units, N at least 50 per mixture component.
            seed: of the posterior draws and of the mixture's start.

        Raises:
            ValueError: too few rows, missing values, or a mixture component that no row belongs to.
        """
        from sklearn.mixture import GaussianMixture

        components = self.config.num_mixture_components
        array = _complete(phenotypes)
        if len(array) < 50 * components:
            raise ValueError(f"{len(array)} rows for {components} components: give at least {50 * components}")
        self.eval()
        generator = torch.Generator().manual_seed(seed)
        mean, logvar = (part.cpu().double() for part in self.encode(self._to_features(torch.from_numpy(array))))
        latents = mean + torch.exp(0.5 * logvar) * torch.randn(mean.shape, generator=generator, dtype=torch.float64)
        standardised = torch.from_numpy(self._standardise(to_unbounded(to_coordinates(array))))
        residuals = standardised - self._decoded_coordinates(self._double_decoder()(latents))

        # Groups (healthy, dilated, ...) are told apart in the coordinates, where they differ more than in the latents.
        chart = standardised[:, next(all_charts())].numpy()
        mixture = GaussianMixture(components, reg_covar=1e-4, random_state=seed).fit(chart)
        assigned = torch.multinomial(torch.from_numpy(mixture.predict_proba(chart)), 1, generator=generator)[:, 0]
        if len(assigned.unique()) < components:
            raise ValueError(f"{components} mixture components are more than these rows fill: take fewer")
        # Small components lean on the regression over all of them, as if by one more row a coordinate.
        prior_rows = len(COORDINATES)
        means = torch.stack([latents[assigned == component].mean(dim=0) for component in range(components)])
        design = torch.cat([torch.ones(len(latents), 1, dtype=torch.float64), latents - means[assigned]], dim=1)
        moments = torch.cat([design, residuals], dim=1)
        pooled = moments.T @ moments / len(moments)
        for component in range(components):
            own = moments[assigned == component]
            total = own.T @ own + prior_rows * pooled
            slopes, covariance = _regression(total, design.shape[1])
            self.mixture_weights[component] = len(own) / len(moments)
            self.mixture_means[component] = means[component]
            self.mixture_covariances[component] = total[1 : design.shape[1], 1 : design.shape[1]] / total[0, 0]
            self.residual_means[component] = slopes[0]
            self.residual_slopes[component] = slopes[1:]
            self.residual_covariances[component] = covariance
        self.register_to_config(sampler_fitted=True)

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator | list[torch.Generator] | None = None) -> np.ndarray:
        """Draw phenotype vectors from the learned distribution.

        Args:
            num_samples: how many.
            generator: one generator (a seed a row is drawn from it first) or a list with one a row; None uses torch's
                global one. A row depends on its own seed alone, bit for bit.

        Returns:
            (num_samples, 82) float64 in physical units; the nine identities hold exactly.
        """
        return self.sample_conditional(np.full((num_samples, len(NAMES)), np.nan), generator)

    @torch.no_grad()
    def sample_conditional(
        self, fixed: np.ndarray, generator: torch.Generator | list[torch.Generator] | None = None
    ) -> np.ndarray:
        """Draw the missing phenotypes from the learned distribution, given the fixed ones.

        Args:
            fixed: anything `as_array` reads, (B, 82); NaN = free. Derived phenotypes can be fixed like any other.
            generator: as for `sample`.

        Returns:
            (B, 82) float64 in physical units. Fixed values come back exactly and the nine identities hold exactly; of
            redundant values that agree only within rounding, the derived ones give way.

        Raises:
            PhenotypeError: a request that contradicts itself, is impossible, or is in the wrong unit.
            ValueError: values are fixed but `fit_sampler` was never called; a list of generators of another length.
        """
        given = as_array(fixed)
        completed = complete_identities(given)
        if not self.config.sampler_fitted and np.isfinite(given).any():
            raise ValueError("phenotypes can be fixed after fit_sampler(training phenotypes) only: call it, then save")
        posterior = _LatentPosterior(self)
        rows = [
            self._draw(posterior, row, row_generator)
            for row, row_generator in zip(completed, _generators(generator, len(given)), strict=True)
        ]
        result = np.concatenate(rows)
        # An identity solved for another variable may miss a fixed value by the last bit.
        kept = np.isclose(result, given, rtol=1e-11, atol=0)
        return np.where(kept, given, enforce_identities(np.where(kept, given, result)))

    def _draw(self, posterior: "_LatentPosterior", completed: np.ndarray, generator: torch.Generator) -> np.ndarray:
        chart, fixed = chart_for(completed)
        standardised = self._standardise(to_unbounded(fixed[None]))[0]
        observed = [index for index in chart if np.isfinite(standardised[index])]
        free = [index for index in chart if not np.isfinite(standardised[index])]
        drawn = posterior.draw(torch.from_numpy(standardised), observed, free, generator)
        values = from_unbounded(self._unstandardise(drawn[None].numpy()))
        coordinates = np.full((1, len(COORDINATES)), np.nan)
        coordinates[0, free] = values[0, free]
        coordinates[0, observed] = fixed[observed]
        return from_chart(coordinates)

    def _to_features(self, phenotypes: torch.Tensor) -> torch.Tensor:
        array = phenotypes.detach().cpu().double().numpy()
        if array.ndim != 2 or array.shape[1] != len(NAMES) or not np.isfinite(array).all():
            raise ValueError(
                f"phenotypes of shape {array.shape}: expected complete (B, {len(NAMES)}) vectors without NaN"
            )
        if self.config.features == "coordinates":
            features = self._standardise(to_unbounded(to_coordinates(array)))
        else:
            features = (array - np.array(self.config.phenotype_mean)) / np.array(self.config.phenotype_sd)
        return torch.from_numpy(features).to(self.device, self.dtype)

    def _double_decoder(self) -> nn.Module:
        """A copy of the decoder that computes the same bits wherever and in whatever alignment the weights lie."""
        decoder = nn.Sequential(self.decoder_input, self.decoder, self.decoder_output)
        return deepcopy(decoder).to(device="cpu", dtype=torch.float64).eval()

    def _decoded_coordinates(self, features: torch.Tensor) -> torch.Tensor:
        """Decoded features (B, F) as standardised unbounded coordinates (B, 85), float64 on CPU."""
        if self.config.features == "coordinates":
            return features
        decoded = features.numpy() * np.array(self.config.phenotype_sd) + np.array(self.config.phenotype_mean)
        return torch.from_numpy(self._standardise(to_unbounded(to_coordinates(_possible(decoded)))))

    def _standardise(self, unbounded: np.ndarray) -> np.ndarray:
        return (unbounded - np.array(self.config.coordinate_mean)) / np.array(self.config.coordinate_sd)

    def _unstandardise(self, standardised: np.ndarray) -> np.ndarray:
        return standardised * np.array(self.config.coordinate_sd) + np.array(self.config.coordinate_mean)


class _LatentPosterior:
    """Draws of the mixture that `fit_sampler` stored, with or without some coordinates observed; float64 on CPU.

    An unfitted model has N(0, I) latents and no residuals, so that unconditional draws are the published ones.
    """

    NUM_PROPOSALS = 256
    # Proposals a little wider than the linearised posterior keep the weights of its tails bounded.
    WIDENING = 1.2

    def __init__(self, model: CPGGPhenotypeVAE) -> None:
        decoder = model._double_decoder()
        self.decode = lambda latents: model._decoded_coordinates(decoder(latents))
        self.log_weights = model.mixture_weights.cpu().double().log()
        self.means = model.mixture_means.cpu().double()
        self.covariances = model.mixture_covariances.cpu().double()
        self.offsets = model.residual_means.cpu().double()
        self.slopes = model.residual_slopes.cpu().double()
        self.noises = model.residual_covariances.cpu().double()
        self.fitted = model.config.sampler_fitted

    def draw(
        self, values: torch.Tensor, observed: list[int], free: list[int], generator: torch.Generator
    ) -> torch.Tensor:
        """Standardised coordinates (85,) with `free` drawn given `values[observed]`."""
        if observed:
            component, center = self._draw_center_given(values[observed], observed, generator)
        else:
            component = _categorical(self.log_weights, generator)
            noise = _normal(self.means.shape[1], generator)
            latents = self.means[component] + _cholesky(self.covariances[component]) @ noise
            center = self._centers(latents[None])[0, component]
        noise = self.noises[component]
        mean, remaining = center[free], noise[free][:, free]
        if observed:
            cross = noise[free][:, observed]
            gain = torch.cholesky_solve(cross.T, _cholesky(noise[observed][:, observed])).T
            mean = mean + gain @ (values[observed] - center[observed])
            remaining = remaining - gain @ cross.T
        if self.fitted:
            mean = mean + _cholesky(remaining) @ _normal(len(free), generator)
        result = values.clone()
        result[free] = mean
        return result

    def _draw_center_given(
        self, values: torch.Tensor, observed: list[int], generator: torch.Generator
    ) -> tuple[int, torch.Tensor]:
        """The component and c_k(z) (85,) of one draw of k, z given the observed values."""
        predicted, cross, spread = self._linearised
        noise = self.noises[:, observed][:, :, observed]
        # A Kalman update of each component: mean and covariance of z given the values, and how well they fit.
        total = _cholesky(spread[:, observed][:, :, observed] + noise)
        gains = torch.cholesky_solve(cross[:, :, observed].mT, total).mT
        errors = values - predicted[:, observed]
        means = self.means + (gains @ errors[:, :, None])[:, :, 0]
        covariances = self.covariances - gains @ cross[:, :, observed].mT
        factors = _cholesky(self.WIDENING * 0.5 * (covariances + covariances.mT))
        log_weights = torch.log_softmax(self.log_weights + _log_normal(errors, total), dim=0)

        uniform = (torch.arange(self.NUM_PROPOSALS) + _uniform(generator)) / self.NUM_PROPOSALS
        chosen = torch.searchsorted(log_weights.exp().cumsum(0), uniform).clamp(max=len(log_weights) - 1)
        normals = _normal((self.NUM_PROPOSALS, means.shape[1]), generator)
        latents = means[chosen] + (factors[chosen] @ normals[:, :, None])[:, :, 0]

        centers = self._centers(latents)
        joint = (
            self.log_weights
            + _log_normal(latents[:, None] - self.means, _cholesky(self.covariances))
            + _log_normal(values - centers[:, :, observed], _cholesky(noise))
        )
        proposal = torch.logsumexp(log_weights + _log_normal(latents[:, None] - means, factors), dim=1)
        index = _categorical(torch.logsumexp(joint, dim=1) - proposal, generator)
        component = _categorical(joint[index], generator)
        return component, centers[index, component]

    def _centers(self, latents: torch.Tensor) -> torch.Tensor:
        """c_k(z) of (N, L) latents for every component: (N, K, 85)."""
        corrections = torch.einsum("nkl,klc->nkc", latents[:, None] - self.means, self.slopes)
        return self.decode(latents)[:, None] + self.offsets + corrections

    @cached_property
    def _linearised(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean of c_k (K, 85), its covariance with z (K, L, 85) and with itself, by the unscented transform."""
        num_latents = self.means.shape[1]
        steps = num_latents**0.5 * _cholesky(self.covariances).mT
        steps = torch.cat([steps, -steps], dim=1)
        decoded = self.decode((self.means[:, None] + steps).flatten(0, 1)).unflatten(0, steps.shape[:2])
        centers = decoded + self.offsets[:, None] + steps @ self.slopes
        means = centers.mean(dim=1)
        centred = centers - means[:, None]
        return means, steps.mT @ centred / (2 * num_latents), centred.mT @ centred / (2 * num_latents)


def _blocks(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, next_width in pairwise(widths):
        layers += [nn.Linear(width, next_width), nn.BatchNorm1d(next_width), nn.LeakyReLU()]
    return nn.Sequential(*layers)


def _regression(moments: torch.Tensor, num_inputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Least squares from second moments of [1, inputs, outputs]: coefficients and residual covariance."""
    inputs, cross, outputs = moments[:num_inputs, :num_inputs], moments[:num_inputs, num_inputs:], moments[num_inputs:]
    coefficients = torch.linalg.solve(inputs, cross)
    return coefficients, (outputs[:, num_inputs:] - cross.T @ coefficients) / moments[0, 0]


def _complete(phenotypes: np.ndarray) -> np.ndarray:
    array = as_array(phenotypes)
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(f"row {row} lacks {NAMES[column]}: train on complete rows")
    return complete_identities(array)


def _possible(decoded: np.ndarray) -> np.ndarray:
    """Cut freely decoded phenotypes (B, 82) to hearts whose coordinates exist: positive, largest above smallest."""
    means = np.array([phenotype.mean for phenotype in PHENOTYPES])
    result = np.where(means > 0, np.maximum(decoded, 1e-3 * means), decoded)
    for largest, smallest, *_ in (*CHAMBERS, *AORTAS):
        result[:, smallest] = np.minimum(result[:, smallest], 0.999 * result[:, largest])
    for *_, fraction in CHAMBERS:
        result[:, fraction] = np.clip(result[:, fraction], 1, 99)
    return result


def _generators(generator: torch.Generator | list[torch.Generator] | None, num_rows: int) -> list[torch.Generator]:
    if isinstance(generator, list):
        if len(generator) != num_rows:
            raise ValueError(f"{len(generator)} generators for {num_rows} rows: give one a row, or a single one")
        return generator
    device = "cpu" if generator is None else generator.device
    seeds = torch.randint(2**63 - 1, (num_rows,), generator=generator, device=device).tolist()
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _normal(shape: int | tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64).cpu()


def _uniform(generator: torch.Generator) -> torch.Tensor:
    return torch.rand((), generator=generator, device=generator.device, dtype=torch.float64).cpu()


def _categorical(log_weights: torch.Tensor, generator: torch.Generator) -> int:
    cumulative = torch.softmax(log_weights, dim=0).cumsum(0)
    return int(torch.searchsorted(cumulative, _uniform(generator)).clamp(max=len(log_weights) - 1))


def _cholesky(covariance: torch.Tensor) -> torch.Tensor:
    # Near-identities (a global strain is almost the mean of its segments) leave covariances that float32 storage can
    # make indefinite; 1e-6 of a standardised variance is far below what anyone measures.
    return torch.linalg.cholesky(covariance + 1e-6 * torch.eye(covariance.shape[-1], dtype=covariance.dtype))


def _log_normal(error: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Log N(error; 0, factor factor^T) up to (2 pi)^(-d/2): error (..., K, d), factor (K, d, d) -> (..., K)."""
    flat = error.reshape(-1, *error.shape[-2:]).movedim(1, 0)
    squares = torch.linalg.solve_triangular(factor, flat.mT, upper=False).square().sum(dim=1)
    squares = squares.mT.reshape(error.shape[:-1])
    return -0.5 * squares - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
