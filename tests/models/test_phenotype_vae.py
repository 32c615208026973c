"""The phenotype VAE as a user meets it: samples, fixed values, reproducibility, refusals."""

import numpy as np
import pytest
import torch

from cpgg_hf.errors import PhenotypeError
from cpgg_hf.models.phenotype_vae import CPGGPhenotypeVAE
from cpgg_hf.phantom import sample_phenotypes
from cpgg_hf.phenotypes import DERIVED_INDICES, NAMES, PHENOTYPES, as_array, identity_residuals
from cpgg_hf.phenotypes.coordinates import all_charts, from_chart, to_coordinates
from cpgg_hf.phenotypes.identities import AORTAS, CHAMBERS


def _index(name):
    return NAMES.index(name)


def _train(phenotypes, epochs, **config):
    torch.manual_seed(0)
    model = CPGGPhenotypeVAE.from_phenotypes(phenotypes, **config)
    rows = torch.from_numpy(phenotypes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    steps = epochs * (len(rows) // 256)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        batch = rows[torch.randint(len(rows), (256,), generator=torch.Generator().manual_seed(step))]
        optimizer.zero_grad()
        model(phenotypes=batch).loss.backward()
        optimizer.step()
        scheduler.step()
    model.fit_sampler(phenotypes)
    return model


def _seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture(scope="module")
def population():
    return sample_phenotypes(8000, seed=1)


@pytest.fixture(scope="module")
def model(population):
    return _train(population, epochs=15)


@pytest.fixture(scope="module")
def samples(model):
    return model.sample(2000, torch.Generator().manual_seed(0))


def test_samples_have_the_population_s_marginals_and_correlations(samples):
    held_out = sample_phenotypes(5000, seed=2)
    everything = np.concatenate([samples, held_out])
    for index, name in enumerate(NAMES):
        ours, theirs = (
            np.searchsorted(np.sort(rows[:, index]), everything[:, index], side="right") / len(rows)
            for rows in (samples, held_out)
        )
        assert np.abs(ours - theirs).max() <= 0.08, name
    differences = np.abs(np.corrcoef(samples.T) - np.corrcoef(held_out.T))[np.triu_indices(82, 1)]
    assert differences.mean() <= 0.05


def test_samples_are_possible_hearts_with_exact_identities(samples):
    assert samples.dtype == np.float64
    relative = identity_residuals(samples) / samples[:, DERIVED_INDICES]
    assert np.abs(relative).max() < 1e-12
    as_array(samples)  # refuses wrong magnitudes
    for largest, smallest in [group[:2] for group in (*CHAMBERS, *AORTAS)]:
        assert (samples[:, smallest] < samples[:, largest]).all()


@pytest.mark.parametrize(
    "request_",
    [
        {"LVEF": 30.0},
        {"LVSV": 91.7, "RVESV": 70.3, "DAo_distensibility": 1.37},
        {"LVEDV": 221.3, "LVEF": 31.7, "WT_AHA_3": 8.13, "Ecc_Global": -11.9},
        {"AAo_distensibility": 1.234, "DAo_distensibility": 2.345, "DAo_max_area": 471.3, "DAo_min_area": 421.7},
    ],
)
def test_fixed_values_come_back_exactly_and_the_identities_hold(model, request_):
    drawn = model.sample_conditional(request_, torch.Generator().manual_seed(0))
    assert drawn.shape == (1, 82)
    assert {name: drawn[0, _index(name)] for name in request_} == request_
    assert np.abs(identity_residuals(drawn) / drawn[:, DERIVED_INDICES]).max() < 1e-11


def test_a_failing_heart_looks_like_those_of_the_population(model):
    population = sample_phenotypes(40_000, seed=3)
    alike = population[np.abs(population[:, _index("LVEF")] - 30) < 1.5]
    drawn = model.sample_conditional(
        np.repeat(as_array({"LVEF": 30.0}), 400, axis=0), torch.Generator().manual_seed(1)
    )
    for name in ("LVEDV", "LVESV", "LAV_max", "LAEF", "RVEF", "Ecc_Global", "Err_Global", "Ell_Global", "WT_AHA_3"):
        index = _index(name)
        difference = (drawn[:, index].mean() - alike[:, index].mean()) / alike[:, index].std()
        assert abs(difference) < 0.4, f"{name}: {difference:+.2f} sd"


def test_a_row_depends_on_its_own_generator_only(model):
    # The last two leave the same coordinates free.
    requests = [{"LVEF": 35.0}, {}, {"LVM": 110.0, "LVEDV": 150.0}, {"LVM": 110.0, "LVESV": 60.0}]
    together = model.sample_conditional(requests, _seeded(5, 6, 7, 8))
    for position, seed in enumerate((5, 6, 7, 8)):
        alone = model.sample_conditional(requests[position], _seeded(seed))
        np.testing.assert_array_equal(alone[0], together[position])
    np.testing.assert_array_equal(
        model.sample(3, torch.Generator().manual_seed(9)), model.sample(5, torch.Generator().manual_seed(9))[:3]
    )


def test_one_generator_draws_the_first_row_as_in_a_list(model):
    alone, listed = model.sample(1, *_seeded(3)), model.sample(1, _seeded(3))
    assert np.array_equal(alone, listed)
    assert np.array_equal(model.sample(3, *_seeded(3))[0], alone[0])
    with pytest.raises(ValueError, match=r"generator must be a torch\.Generator or a list of them, given 3"):
        model.sample(1, 3)


def test_a_saved_model_draws_the_same_bits(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["diffusion_pytorch_model.safetensors"]
    loaded = CPGGPhenotypeVAE.from_pretrained(tmp_path)
    assert loaded.config.phenotype_mean == model.config.phenotype_mean
    for request_ in ({}, {"LVEF": 40.0, "RAV_max": 95.0}):
        expected = model.sample_conditional(request_, _seeded(3))
        np.testing.assert_array_equal(loaded.sample_conditional(request_, _seeded(3)), expected)


def test_redundant_values_within_rounding_are_reconciled_by_the_volumes(model):
    given = {"LVEDV": 143.3, "LVESV": 58.2, "LVSV": 85.1, "LVEF": 59.4}
    drawn = model.sample_conditional(given, _seeded(0))
    assert (drawn[0, 0], drawn[0, 1]) == (143.3, 58.2)
    assert drawn[0, 3] == pytest.approx(100 * (143.3 - 58.2) / 143.3, rel=1e-14)


def test_a_complete_row_comes_back_as_it_is(model, population):
    np.testing.assert_allclose(model.sample_conditional(population[:2], _seeded(0, 1)), population[:2], rtol=1e-12)


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ({"LVEF": 0.55}, "multiply by 100"),
        ({"LVEDV": 150.0, "LVESV": 60.0, "LVEF": 70.0}, "contradict"),
        ({"LVEDV": 100.0, "LVESV": 120.0}, "must be above"),
        ({"LVEFF": 50.0}, "LVEF"),
    ],
)
def test_an_impossible_request_is_refused(model, request_, named):
    with pytest.raises(PhenotypeError, match=named):
        model.sample_conditional(request_)


def test_a_model_without_fitted_sampler_samples_as_published_and_refuses_fixed_values():
    model = CPGGPhenotypeVAE(hidden_dims=(16, 16), latent_dim=4)
    torch.nn.init.zeros_(model.decoder_output.weight)
    torch.nn.init.constant_(model.decoder_output.bias, 0.5)
    drawn = model.sample(2, torch.Generator().manual_seed(0))
    for name in ("LVEDV", "LVESV", "LVM", "WT_AHA_5", "Ecc_Global", "AAo_min_area"):
        phenotype = PHENOTYPES[_index(name)]
        assert drawn[:, _index(name)] == pytest.approx(phenotype.mean + 0.5 * phenotype.sd, rel=1e-6)
    with pytest.raises(ValueError, match="fit_sampler"):
        model.sample_conditional({"LVEF": 50.0})


def test_incomplete_or_impossible_training_rows_are_refused(population):
    rows = population[:10].copy()
    rows[4, 7] = np.nan
    with pytest.raises(ValueError, match="row 4"):
        CPGGPhenotypeVAE.from_phenotypes(rows)
    rows[4] = population[4]
    rows[6, _index("LVESV")] = 2 * rows[6, _index("LVEDV")]
    with pytest.raises(ValueError, match="row 6"):
        CPGGPhenotypeVAE.from_phenotypes(rows)
    with pytest.raises(ValueError, match="at least 400 rows, given 100"):
        CPGGPhenotypeVAE.from_phenotypes(population[:100]).fit_sampler(population[:100])


def _gaussian_case(num_rows, seed):
    """Rows whose coordinates of one chart are jointly Gaussian with six factors; also mean and covariance."""
    means = to_coordinates(as_array(np.array([phenotype.mean for phenotype in PHENOTYPES])))[0]
    chart = next(all_charts())
    rng = np.random.default_rng(0)
    loadings = rng.normal(0, 0.3, (len(chart), 6))
    correlations = loadings @ loadings.T + np.diag(1 - np.minimum((loadings**2).sum(axis=1), 0.8))
    scale = 0.12 * np.abs(means[list(chart)])
    covariance = correlations * np.outer(scale, scale)
    values = np.full((num_rows, len(means)), np.nan)
    values[:, chart] = np.random.default_rng(seed).multivariate_normal(means[list(chart)], covariance, num_rows)
    return from_chart(values), chart, means[list(chart)], covariance


def test_gaussian_case_has_the_analytic_conditional_means_and_sds():
    rows, chart, means, covariance = _gaussian_case(20_000, seed=1)
    model = _train(rows, epochs=8, num_mixture_components=2)
    fixed = [chart.index(_index(name)) for name in ("LVEDV", "LVM", "WT_AHA_3", "Ecc_Global", "Err_AHA_4")]
    others = [position for position in range(len(chart)) if position not in fixed]
    shift = np.array([1.2, -0.8, 1.0, 0.7, -1.1]) * np.sqrt(np.diag(covariance))[fixed]
    gain = covariance[np.ix_(others, fixed)] @ np.linalg.inv(covariance[np.ix_(fixed, fixed)])
    expected = means[others] + gain @ shift
    sds = np.sqrt(np.diag(covariance[np.ix_(others, others)] - gain @ covariance[np.ix_(fixed, others)]))

    request_ = {NAMES[chart[position]]: means[position] + step for position, step in zip(fixed, shift, strict=True)}
    drawn = model.sample_conditional(np.repeat(as_array(request_), 8000, axis=0), torch.Generator().manual_seed(0))
    drawn = to_coordinates(drawn)[:, [chart[position] for position in others]]
    # The covariance of 20,000 rows gives these means to 0.02 sd each and 8,000 draws to 0.01 sd; there are 68 of them.
    assert np.abs((drawn.mean(axis=0) - expected) / sds).max() <= 0.1
    ratios = drawn.std(axis=0) / sds
    assert ratios.min() >= 0.85
    assert ratios.max() <= 1.15


def test_the_sampler_keeps_its_precision_whatever_the_model_is_cast_to(tmp_path):
    training_set = sample_phenotypes(200, seed=0)
    model = CPGGPhenotypeVAE.from_phenotypes(training_set, hidden_dims=(8,), latent_dim=3, num_mixture_components=1)
    model.fit_sampler(training_set)
    before = model.sample(3, torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path)
    loaded = CPGGPhenotypeVAE.from_pretrained(tmp_path, torch_dtype=torch.float16)
    for cast in (model.to(torch.float16), model.half(), loaded):
        np.testing.assert_array_equal(cast.sample(3, torch.Generator().manual_seed(0)), before)
    assert model.to("meta").mixture_covariances.device.type == "meta"


def test_forward_gives_a_tuple_with_the_reconstruction_first(model, population):
    rows, noise = torch.from_numpy(population[:4]), torch.zeros(4, model.config.latent_dim)
    output = model(rows, noise)
    assert torch.equal(model(rows, noise, return_dict=False)[0], output.reconstruction)
    assert len(output.to_tuple()) == 6


@pytest.mark.parametrize("low_cpu_mem_usage", [True, False])
def test_weights_stay_in_float32_however_they_are_loaded(model, tmp_path, low_cpu_mem_usage):
    model.save_pretrained(tmp_path)
    loaded = CPGGPhenotypeVAE.from_pretrained(tmp_path, torch_dtype=torch.float16, low_cpu_mem_usage=low_cpu_mem_usage)
    assert {tensor.dtype for tensor in loaded.state_dict().values() if tensor.is_floating_point()} == {torch.float32}
    assert np.array_equal(loaded.sample(2, _seeded(1, 2)), model.sample(2, _seeded(1, 2)))
