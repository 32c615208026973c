"""What was trained on restricted data says so, and so does all that descends from it."""

import json

import pytest

from cpgg_hf.training.stages.cine_segmenter import CineSegmenterArguments, CineSegmenterStage
from cpgg_hf.training.stages.mar import MARStage
from cpgg_hf.training.stages.phenotype_vae import PhenotypeVAEStage
from cpgg_hf.training.stages.vae import VAEStage

from .conftest import TINY_MAR, TINY_PHENOTYPE_VAE, TINY_VAE, run, save_vae, write_data


def _policies(folder):
    return {part: json.loads((folder / part / "config.json").read_text())["data_policy"] for part in ("model", "ema")}


def _short(settings, **changes):
    return {**settings, "max_train_steps": 1, "lr_warmup_steps": 0, **changes}


@pytest.mark.parametrize("policy", ["phantom", "restricted"])
def test_a_vae_a_mar_and_a_vae_trained_on_say_what_they_were_trained_on(settings, tmp_path, policy):
    data = str(write_data(tmp_path / "cines", policy=policy))
    run(VAEStage, TINY_VAE, _short(settings, data=data, output_dir=str(tmp_path / "vae")))
    assert _policies(tmp_path / "vae") == {"model": policy, "ema": policy}
    vae = str(tmp_path / "vae" / "ema")
    run(MARStage, TINY_MAR, _short(settings, data=data, vae=vae, output_dir=str(tmp_path / "mar")))
    assert _policies(tmp_path / "mar") == {"model": policy, "ema": policy}
    run(VAEStage, {}, _short(settings, data=data, init_from=vae, output_dir=str(tmp_path / "refined")))
    assert _policies(tmp_path / "refined") == {"model": policy, "ema": policy}


def test_phantoms_do_not_wash_a_network_clean(settings, tmp_path):
    data = str(write_data(tmp_path / "cines", policy="phantom"))
    unknown = str(save_vae(tmp_path / "vae"))  # says nothing
    run(MARStage, TINY_MAR, _short(settings, data=data, vae=unknown, output_dir=str(tmp_path / "mar")))
    assert _policies(tmp_path / "mar") == {"model": "restricted", "ema": "restricted"}


def test_a_setting_cannot_loosen_it(settings, tmp_path):
    data = str(write_data(tmp_path / "cines", policy="restricted"))
    run(VAEStage, {**TINY_VAE, "data_policy": "phantom"}, _short(settings, data=data))
    assert _policies(tmp_path / "run")["model"] == "restricted"


def test_tables_of_phenotypes_say_nothing_and_segmenters_render_their_own(settings, phenotype_tables, tmp_path):
    run(PhenotypeVAEStage, TINY_PHENOTYPE_VAE, _short(settings, **phenotype_tables, batch_size=50))
    assert _policies(tmp_path / "run")["model"] == "restricted"
    arguments = CineSegmenterArguments(output_dir=str(tmp_path), data=str(tmp_path), max_train_steps=1)
    assert CineSegmenterStage(arguments).data_policy() == "phantom"
