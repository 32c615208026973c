"""`cpgg convert`: published weights become models that load, with the stated policy; errors are one sentence."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cpgg_hf import CPGGMARModel, CPGGPhenotypeVAE, phantom
from cpgg_hf.cli.main import main
from cpgg_hf.phenotypes import as_frame

PARITY = Path(__file__).parents[1] / "data" / "parity" / "a"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The recorded networks as files that hold nothing but the weights."""
    folder = tmp_path_factory.mktemp("published")
    for name in ("mar", "phenotype_vae"):
        tensors = load_file(PARITY / f"{name}.safetensors")
        state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
        save_file(state, folder / f"{name}.safetensors")
        torch.save({"model_ema": state, "epoch": 3}, folder / f"{name}.pth")
    as_frame(phantom.sample_phenotypes(400, seed=0)).to_csv(folder / "phenotypes.csv", index=False)
    return folder


def test_a_transformer_is_written_with_its_policy(published, tmp_path, capsys):
    command = ["convert", "mar", str(published / "mar.safetensors"), "--config", str(PARITY / "config.json")]
    assert main([*command, "--out", str(tmp_path / "mar"), "--data-policy", "public"]) == 0
    assert "data policy: public" in capsys.readouterr().out
    model = CPGGMARModel.from_pretrained(tmp_path / "mar")
    vectors = load_file(PARITY / "mar.safetensors")
    assert torch.equal(model.diffusion_head.input_projection.weight, vectors["state.diffloss.net.input_proj.weight"])
    assert model.config.data_policy == "public"


def test_a_phenotype_vae_and_a_transformer_share_the_scaler_of_a_table(published, tmp_path):
    table = ["--phenotypes", str(published / "phenotypes.csv"), "--key", "model_ema"]
    command = ["convert", "phenotype_vae", str(published / "phenotype_vae.pth"), *table]
    assert main([*command, "--out", str(tmp_path / "vae")]) == 0
    model = CPGGPhenotypeVAE.from_pretrained(tmp_path / "vae")
    assert model.config.data_policy == "restricted"
    assert model.sample_conditional({"LVEF": 30.0})[0].tolist() != []
    mar = ["convert", "mar", str(published / "mar.pth"), "--config", str(PARITY / "config.json"), *table]
    assert main([*mar, "--out", str(tmp_path / "mar")]) == 0
    converted = CPGGMARModel.from_pretrained(tmp_path / "mar").config
    assert converted.phenotype_mean == list(model.config.phenotype_mean)
    assert converted.phenotype_sd == list(model.config.phenotype_sd)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mar", "mar.safetensors"], "does not store its sizes; give them with --config."),
        (["mar", "phenotype_vae.safetensors", "--config", str(PARITY / "config.json")], "not the weights of the pub"),
        (["mar", "mar.safetensors", "--config", "empty.json"], "the published sizes lack ['img', "),
        (["mar", "mar.safetensors", "--config", "absent.json"], "cannot read sizes from absent.json"),
        (["phenotype_vae", "mar.safetensors"], "check that these are the weights of the published phenotype VAE."),
        (["phenotype_vae", "absent.pth"], "cannot read weights from absent.pth"),
        (["phenotype_vae", "phenotype_vae.pth"], "name the entry that is one with --key."),
        (["phenotype_vae", "phenotype_vae.pth", "--key", "ema"], "has no entry 'ema'; expected one of ['model_ema', "),
    ],
)
def test_errors_are_one_sentence(published, monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(published)
    (published / "empty.json").write_text(json.dumps({}))
    assert main(["convert", *arguments, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert error.endswith(".\n")
    assert not (tmp_path / "out").exists()


class _RunsCode:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_file_that_would_run_code_is_refused(tmp_path, capsys):
    torch.save({"fc_mu.weight": _RunsCode(tmp_path / "ran")}, tmp_path / "weights.pth")
    assert main(["convert", "phenotype_vae", str(tmp_path / "weights.pth"), "--out", str(tmp_path / "out")]) == 1
    assert "cannot read weights from" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
