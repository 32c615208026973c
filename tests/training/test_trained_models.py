"""Networks that a stage builds on are checked before they are loaded."""

import pytest
import torch

from cpgg_hf.errors import CheckpointError, TrainingError
from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel
from cpgg_hf.training.loop import launch
from cpgg_hf.training.stages.mar import MARStage
from cpgg_hf.training.trained_models import load_trained


def test_a_trained_network_is_loaded_as_it_is(vae):
    one, other = load_trained(AutoencoderKLCPGG, str(vae)), AutoencoderKLCPGG.from_pretrained(vae)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_foreign_folder_or_none_is_refused(vae, tmp_path):
    with pytest.raises(CheckpointError, match="describes AutoencoderKLCPGG, not CPGGMARModel"):
        load_trained(CPGGMARModel, str(vae))
    with pytest.raises(TrainingError, match="is neither a local folder nor a Hub repository with a"):
        load_trained(CPGGMARModel, str(tmp_path / "nothing"))


def test_a_script_says_so_in_one_sentence(vae, data, tmp_path, capsys):
    flags = ["--data", str(data), "--max_train_steps", "1", "--vae", str(tmp_path / "nothing")]
    assert launch(MARStage, [*flags, "--output_dir", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'nothing'} is neither a local folder nor")
    assert error.count("\n") == 1
