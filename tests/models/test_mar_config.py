"""Configuration of the transformer: the paper's defaults, a faithful round trip, and refusals that say why."""

import json

import pytest
import torch

from cpgg_hf.models.configuration_cpgg_mar import CPGGMARConfig
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel
from cpgg_hf.phenotypes import PHENOTYPES


def test_defaults_are_the_papers_sizes():
    with torch.device("meta"):
        model = CPGGMARModel(CPGGMARConfig())
    tokens = model.patchify(torch.empty(2, 16, 25, 12, 12, device="meta"))
    assert tokens.shape == (2, 180, 320)
    assert model.encoder_position_embedding.shape == (64 + 180, 768)
    assert len(model.encoder_layers) == len(model.decoder_layers) == 12
    assert sum(p.numel() for p in model.encoder_layers.parameters()) == 12 * (12 * 768**2 + 13 * 768)
    assert model.diffusion_head.width == 1024
    assert len(model.diffusion_head.blocks) == 3


def test_scaler_defaults_to_the_schema():
    config = CPGGMARConfig()
    assert config.phenotype_mean == [phenotype.mean for phenotype in PHENOTYPES]
    assert config.phenotype_sd == [phenotype.sd for phenotype in PHENOTYPES]


def test_round_trip_through_json(tmp_path):
    config = CPGGMARConfig(latent_size=(5, 12, 12), phenotype_mean=[1.5] * 82, dropout=0)
    config.save_pretrained(tmp_path)
    loaded = CPGGMARConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert loaded.grid_size == (1, 6, 6)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "cpgg_mar"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_size": (25, 12, 13)}, "must be a multiple of patch_size"),
        ({"latent_size": (12, 12)}, "frames, rows, columns"),
        ({"decoder_width": 100}, "decoder_width must be a multiple of .*, given 100"),
        ({"phenotype_mean": [0.0] * 81}, "given 81 and 82"),
        ({"phenotype_sd": [0.0] * 82}, "must be positive"),
        ({"condition_projection": "conv"}, "'conv'"),
        ({"head_type": "score"}, 'head_type must be "diffusion" or "flow_matching", given .score'),
        ({"mask_ratio_minimum": 1.5}, "mask_ratio_minimum"),
        ({"encoder_depth": 0}, "at least 1"),
        ({"encoder_width": "wide"}, "encoder_width"),
    ],
)
def test_values_that_cannot_be_are_refused(options, message):
    with pytest.raises(Exception, match=message):
        CPGGMARConfig(**options)
