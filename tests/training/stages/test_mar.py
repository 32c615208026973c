"""The MAR stage: cached latents, standardisation, the phenotype scaler, missing phenotypes."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from cpgg_hf.dataset import load_cines
from cpgg_hf.errors import TrainingError
from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel
from cpgg_hf.training.randomness import StepRandomness
from cpgg_hf.training.stages.mar import MARArguments, MARStage, fit_scaler, hide_phenotypes

from ..conftest import TINY_MAR, TINY_VAE, log_of, run, save_vae


@pytest.fixture
def mar_settings(settings, vae):
    return {**settings, "vae": str(vae)}


def test_the_model_sees_latents_standardised_by_the_vaes_statistics(mar_settings, vae):
    arguments = MARArguments(**mar_settings)
    arguments.model = dict(TINY_MAR)
    stage = MARStage(arguments)
    moments, _ = stage.load_data(Accelerator())
    batch = moments[range(len(moments))]
    samples = torch.stack(
        [
            stage._sample_latents(batch, StepRandomness(0, step, 0, len(moments), "cpu"), torch.float32)
            for step in range(400)
        ]
    )
    config = AutoencoderKLCPGG.load_config(vae)
    mean, std = (torch.tensor(config[key]).view(1, -1, 1, 1, 1) for key in ("latents_mean", "latents_std"))
    torch.testing.assert_close(samples.mean(0), (batch["mean"].float() - mean) / std, atol=0.5, rtol=0)
    expected = (0.5 * batch["logvar"].float()).exp() / std
    torch.testing.assert_close(samples.std(0).mean(), expected.mean(), atol=0, rtol=0.01)


def test_a_flow_matching_head_trains_on_timesteps_that_are_no_integers(mar_settings, tmp_path, monkeypatch):
    timesteps = []
    forward = CPGGMARModel.forward

    def spy(self, **inputs):
        timesteps.append(inputs["timesteps"])
        return forward(self, **inputs)

    monkeypatch.setattr(CPGGMARModel, "forward", spy)
    run(MARStage, {**TINY_MAR, "head_type": "flow_matching"}, mar_settings)
    drawn = torch.cat([some.flatten() for some in timesteps])
    assert 0 <= drawn.min() < 50
    assert 950 < drawn.max() < 1000
    assert (drawn % 1 > 0).float().mean() > 0.9
    line = log_of(tmp_path / "run")[-1]
    assert line["validation_loss"] == line["validation_mse"]
    assert "validation_vlb" not in line


def test_the_scaler_is_the_training_splits_and_travels_with_the_model(mar_settings, data, tmp_path):
    run(MARStage, TINY_MAR, mar_settings)
    training = np.array([row["phenotypes"] for row in load_cines(data, "train")])
    for part in ("model", "ema"):
        config = CPGGMARModel.from_pretrained(tmp_path / "run" / part).config
        np.testing.assert_allclose(config.phenotype_mean, training.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(config.phenotype_sd, training.std(axis=0), rtol=1e-12)


def test_the_scaler_skips_missing_values_and_refuses_constant_ones():
    phenotypes = np.random.default_rng(0).normal(50.0, 5.0, (40, 82))
    phenotypes[::3, 4] = np.nan
    mean, sd = fit_scaler(phenotypes)
    assert mean[4] == pytest.approx(np.nanmean(phenotypes[:, 4]))
    assert sd[4] == pytest.approx(np.nanstd(phenotypes[:, 4]))
    phenotypes[:, 0] = 1.0
    with pytest.raises(TrainingError, match="no usable values of LVEDV"):
        fit_scaler(phenotypes)


def test_hidden_phenotypes():
    hidden = (
        hide_phenotypes(torch.ones(4000, 82), 0.25, StepRandomness(0, 0, 0, 4000, "cpu")).isnan().float().mean(dim=1)
    )
    assert (hidden > 0).float().mean() == pytest.approx(0.25, abs=0.03)
    assert hidden[hidden > 0].mean() == pytest.approx(0.5, abs=0.03)


def test_a_trained_mar_resumes_under_another_vae(mar_settings, tmp_path):
    run(MARStage, TINY_MAR, mar_settings, output_dir=str(tmp_path / "first"))
    start = str(tmp_path / "first" / "model")
    other_vae = str(save_vae(tmp_path / "other_vae", seed=1))
    still = {"init_from": start, "learning_rate": 1e-12, "output_dir": str(tmp_path / "go")}
    run(MARStage, {}, mar_settings, vae=other_vae, **still)
    before, after = (CPGGMARModel.from_pretrained(folder) for folder in (start, tmp_path / "go" / "model"))
    for one, other in zip(before.parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(other, one, atol=1e-9, rtol=0)
    with pytest.raises(TrainingError, match="model settings come from init_from"):
        run(MARStage, TINY_MAR, mar_settings, init_from=start, output_dir=str(tmp_path / "a"))
    before.config.phenotype_mean[0] += 1.0
    before.save_pretrained(tmp_path / "another_scaler")
    with pytest.raises(TrainingError, match=r"phenotype_mean of .* does not match the VAEs"):
        run(MARStage, {}, mar_settings, init_from=str(tmp_path / "another_scaler"), output_dir=str(tmp_path / "b"))


def test_other_networks_are_checked_before_the_latents_are_encoded(mar_settings, tmp_path):
    for name in ("phenotype_vae", "segmenter"):
        with pytest.raises(TrainingError, match="nowhere is neither a local folder nor a Hub repository"):
            run(MARStage, TINY_MAR, mar_settings, **{name: "nowhere"})
    assert not (tmp_path / "run" / "latents").exists()


def test_unfit_vaes_and_shapes_are_refused(mar_settings, tmp_path):
    with pytest.raises(TrainingError, match=r"model.latent_size is \[9, 9, 9\], the latents of .* have \(2, 8, 8\)"):
        run(MARStage, {**TINY_MAR, "latent_size": [9, 9, 9]}, mar_settings)
    AutoencoderKLCPGG(**TINY_VAE).save_pretrained(tmp_path / "unfinished")
    with pytest.raises(TrainingError, match="has no latents_mean"):
        run(MARStage, TINY_MAR, mar_settings, vae=str(tmp_path / "unfinished"))
    with pytest.raises(TrainingError, match="vae is empty; give a value or leave it out"):
        run(MARStage, TINY_MAR, {**mar_settings, "vae": ""})
