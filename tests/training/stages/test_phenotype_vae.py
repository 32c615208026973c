"""The phenotype VAE stage: what it learns from, what it saves, and that the MAR takes its scaler."""

import numpy as np
import pytest

from cpgg_hf.errors import TrainingError
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel
from cpgg_hf.models.phenotype_vae import CPGGPhenotypeVAE
from cpgg_hf.phenotypes import identity_residuals, phenotype_index, read_csv, write_csv
from cpgg_hf.training.stages.mar import MARStage
from cpgg_hf.training.stages.phenotype_vae import PhenotypeVAEStage

from ..conftest import TINY_MAR, TINY_PHENOTYPE_VAE, log_of, run


@pytest.fixture
def phenotype_settings(settings, phenotype_tables):
    return {**settings, **phenotype_tables, "batch_size": 16, "use_ema": False}


def test_the_saved_model_samples_hearts_and_lends_the_mar_its_scaler(
    phenotype_settings, phenotype_tables, settings, vae, tmp_path
):
    run(PhenotypeVAEStage, TINY_PHENOTYPE_VAE, phenotype_settings, output_dir=str(tmp_path / "phenotypes"))
    assert not (tmp_path / "phenotypes" / "ema").exists()
    network = CPGGPhenotypeVAE.from_pretrained(tmp_path / "phenotypes" / "model")
    training = read_csv(phenotype_tables["data"])
    np.testing.assert_allclose(network.config.phenotype_mean, training.mean(axis=0), rtol=1e-12)
    drawn = network.sample_conditional({"LVEF": 40.0})
    assert drawn[0, phenotype_index("LVEF")] == 40.0
    assert np.nanmax(np.abs(identity_residuals(drawn))) < 1e-9

    path = str(tmp_path / "phenotypes" / "model")
    run(MARStage, TINY_MAR, settings, vae=str(vae), phenotype_vae=path, max_train_steps=1)
    config = CPGGMARModel.from_pretrained(tmp_path / "run" / "ema").config
    assert config.phenotype_mean == list(network.config.phenotype_mean)
    assert config.phenotype_sd == list(network.config.phenotype_sd)


def test_training_lowers_the_loss(phenotype_settings, tmp_path):
    changes = {"max_train_steps": 60, "logging_steps": 10, "checkpointing_steps": 60}
    run(PhenotypeVAEStage, TINY_PHENOTYPE_VAE, phenotype_settings, **changes)
    lines = log_of(tmp_path / "run")
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    assert lines[-1].keys() == {"step", "validation_loss", "validation_reconstruction", "validation_kl"}


def test_unfit_tables_are_refused(phenotype_settings, tmp_path):
    phenotypes = read_csv(phenotype_settings["data"])
    phenotypes[7, 0] = np.nan
    incomplete = tmp_path / "incomplete.csv"
    write_csv(phenotypes, incomplete)
    with pytest.raises(TrainingError, match=r"lacks LVEDV in row 7 \(1 incomplete rows in total\)"):
        run(PhenotypeVAEStage, TINY_PHENOTYPE_VAE, phenotype_settings, data=str(incomplete))
    with pytest.raises(TrainingError, match="pass held-out rows with --validation_data"):
        run(PhenotypeVAEStage, TINY_PHENOTYPE_VAE, {**phenotype_settings, "validation_data": None})
    with pytest.raises(TrainingError, match="has no key 'phenotype_mean'"):
        run(PhenotypeVAEStage, {**TINY_PHENOTYPE_VAE, "phenotype_mean": [0.0]}, phenotype_settings)


def test_few_subjects_get_fewer_mixture_components_and_are_refused_before_training(phenotype_settings, tmp_path):
    """ACDC has 100 subjects; the network's default of 8 components needs 400."""
    model = {key: value for key, value in TINY_PHENOTYPE_VAE.items() if key != "num_mixture_components"}
    run(PhenotypeVAEStage, model, phenotype_settings)
    network = CPGGPhenotypeVAE.from_pretrained(tmp_path / "run" / "model")
    assert (network.config.num_mixture_components, network.config.sampler_fitted) == (2, True)
    wanted, few = {**model, "num_mixture_components": 3}, tmp_path / "few.csv"
    with pytest.raises(TrainingError, match=r"100 rows, but 3 mixture .* need 150; set .*components to at most 2"):
        run(PhenotypeVAEStage, wanted, phenotype_settings, output_dir=str(tmp_path / "wanted"))
    write_csv(read_csv(phenotype_settings["data"])[:40], few)
    with pytest.raises(TrainingError, match=r"40 rows, but 1 mixture .* need 50; prepare more subjects"):
        run(PhenotypeVAEStage, model, phenotype_settings, data=str(few), output_dir=str(tmp_path / "few"))


def test_batch_normalisation_keeps_to_its_micro_batches(phenotype_settings):
    run(PhenotypeVAEStage, TINY_PHENOTYPE_VAE, phenotype_settings, max_seconds=0.0)
    halves = {"batch_size": 8, "gradient_accumulation_steps": 2, "resume_from_checkpoint": "latest"}
    with pytest.raises(TrainingError, match="micro_batches was 1 and is 2"):
        run(PhenotypeVAEStage, TINY_PHENOTYPE_VAE, phenotype_settings, **halves)
