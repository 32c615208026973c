"""LoRA of the MAR: the weights stay, the adapter is saved, pushed and loaded alone, and does what its matrices say."""

import copy
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from huggingface_hub import HfApi
from safetensors.torch import load_file

from cpgg_hf.dataset import load_cines
from cpgg_hf.errors import TrainingError
from cpgg_hf.models.configuration_cpgg_mar import CPGGMARConfig
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel
from cpgg_hf.phantom import sample_phenotypes
from cpgg_hf.training.stages.mar import MARArguments, MARStage, fit_scaler
from cpgg_hf.training.trained_models import add_lora

from .conftest import TINY_MAR, assert_same_run, run

RANK = 2


@pytest.fixture(scope="module")
def base(tmp_path_factory, data):
    """A MAR of the tiny 3D-VAE's latents, random and with the training split's scaler."""
    mean, sd = fit_scaler(np.array([row["phenotypes"] for row in load_cines(data, "train")]))
    torch.manual_seed(0)
    given = {"latent_channels": 2, "latent_size": (2, 8, 8), "phenotype_mean": mean, "phenotype_sd": sd}
    given["data_policy"] = "phantom"
    model = CPGGMARModel(CPGGMARConfig(**TINY_MAR, **given))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("base")
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def lora_settings(settings, vae, base):
    return {**settings, "vae": str(vae), "init_from": str(base), "lora_rank": RANK}


def vectors(model):
    """`z` of fixed latents."""
    latents = torch.randn(3, 2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    phenotypes = torch.from_numpy(sample_phenotypes(3, seed=0))
    mask = torch.arange(8).expand(3, -1) < 5
    with torch.no_grad():
        return model.eval()(latents, phenotypes, mask=mask, return_loss=False).z


def test_a_run_saves_the_adapter_only_and_any_start_finds_it_again(lora_settings, base, tmp_path, hub):
    run(MARStage, {}, lora_settings)
    plain = CPGGMARModel.from_pretrained(base)
    before = copy.deepcopy(plain.state_dict())
    for part in ("model", "ema"):
        folder = tmp_path / "run" / part
        assert {path.name for path in folder.iterdir()} == {
            "adapter_config.json",
            "adapter_model.safetensors",
            "data_policy.json",
        }
        tensors = load_file(folder / "adapter_model.safetensors")
        assert all(min(tensor.shape) <= RANK for tensor in tensors.values())

    adapted = CPGGMARModel.from_pretrained(base)
    adapted.load_adapter(str(folder))
    for name, tensor in adapted.state_dict().items():
        if "lora_" not in name:
            assert torch.equal(tensor, before[name.replace(".base_layer", "")]), name
    # The truth: W + B A in place of W.
    for name, a in tensors.items():
        if not name.endswith("lora_A.weight"):
            continue
        layer = plain.get_submodule(name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
        layer.weight.data += tensors[name.replace("lora_A", "lora_B")] @ a
    torch.testing.assert_close(vectors(adapted), vectors(plain), atol=1e-5, rtol=1e-5)
    assert (vectors(adapted) - vectors(CPGGMARModel.from_pretrained(base))).abs().max() > 1e-3

    # The tiny 3D-VAE says nothing of its policy, so the adapter is restricted, and what it is loaded onto.
    adapted.push_to_hub("user/adapter", override_policy="random networks of a test")
    assert not any(name.startswith("model") for name in HfApi().list_repo_files("user/adapter"))
    pulled = CPGGMARModel.from_pretrained(base)
    pulled.load_adapter("user/adapter")
    assert torch.equal(vectors(pulled), vectors(adapted))


def test_an_interrupted_run_resumes_to_the_same_adapter(lora_settings, tmp_path):
    run(MARStage, {}, lora_settings, output_dir=str(tmp_path / "undisturbed"))
    run(MARStage, {}, lora_settings, max_seconds=0.0)
    with pytest.raises(TrainingError, match="lora_rank was 2 and is 3"):
        run(MARStage, {}, lora_settings, lora_rank=3, resume_from_checkpoint="latest")
    run(MARStage, {}, lora_settings, resume_from_checkpoint="latest")
    assert_same_run(tmp_path / "undisturbed", tmp_path / "run")


def test_a_new_adapter_changes_nothing_and_only_it_is_trained(base):
    model = CPGGMARModel.from_pretrained(base)
    before = vectors(model)
    add_lora(model, RANK, Accelerator())
    assert torch.equal(vectors(model), before)
    assert all(parameter.requires_grad == ("lora_" in name) for name, parameter in model.named_parameters())


def test_a_lora_needs_weights_to_stand_beside(lora_settings):
    with pytest.raises(TrainingError, match="lora_rank is 2 without a trained MAR"):
        MARArguments(**{**lora_settings, "init_from": None})
    with pytest.raises(TrainingError, match="lora_rank must be at least 0"):
        MARArguments(**{**lora_settings, "lora_rank": -1})


def test_what_a_lora_cannot_be_trained_with_is_said(base, monkeypatch):
    model = CPGGMARModel.from_pretrained(base)
    with pytest.raises(TrainingError, match="cannot be trained under FSDP; use DDP"):
        add_lora(model, RANK, SimpleNamespace(distributed_type=DistributedType.FSDP))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(TrainingError, match=r"peft is needed .* `pip install 'cpgg_hf\[adapters\]'`"):
        add_lora(model, RANK, Accelerator())
