"""Registration: diffusers and transformers find the package's classes (diffusers' tables are private API)."""

import torch
from diffusers.pipelines import pipeline_loading_utils
from transformers import AutoConfig, AutoModel

import cpgg_hf

from .mar_fixtures import tiny_model


def test_diffusers_knows_how_to_load_every_component():
    assert cpgg_hf.CPGGDDPMScheduler is not None  # touching a public class registers all
    loaders = pipeline_loading_utils.LOADABLE_CLASSES["cpgg_hf"]
    for name in ("AutoencoderKLCPGG", "CPGGDDPMScheduler", "CPGGMARModel", "CPGGPhenotypeVAE"):
        assert loaders[name] == ["save_pretrained", "from_pretrained"]
        assert pipeline_loading_utils.ALL_IMPORTABLE_CLASSES[name] == loaders[name]
        assert hasattr(getattr(cpgg_hf, name), "from_pretrained")


def test_auto_classes_give_the_transformer_back(tmp_path):
    assert cpgg_hf.CPGGMARModel is not None
    model = tiny_model()
    model.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is cpgg_hf.CPGGMARConfig
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is cpgg_hf.CPGGMARModel
    assert type(AutoModel.from_config(model.config)) is cpgg_hf.CPGGMARModel
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
