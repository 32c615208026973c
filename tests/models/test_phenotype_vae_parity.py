"""The published phenotype VAE, from recorded vectors: the same numbers to 1e-5 relative."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cpgg_hf.models.converters import convert_published_phenotype_vae
from cpgg_hf.models.phenotype_vae import CPGGPhenotypeVAE

FOLDER = Path(os.environ.get("CPGG_PARITY_DIR", Path(__file__).parents[1] / "data" / "parity"))
VECTORS = sorted(FOLDER.glob("*/phenotype_vae.safetensors"))


def _relative_error(ours, reference):
    return ((ours - reference).norm() / reference.norm()).item()


def _published(vectors):
    return {name.removeprefix("state."): tensor for name, tensor in vectors.items() if name.startswith("state.")}


def test_there_are_recorded_vectors():
    assert VECTORS, f"no */phenotype_vae.safetensors in {FOLDER}"


@pytest.mark.parametrize("path", VECTORS, ids=[path.parent.name for path in VECTORS])
def test_encoder_and_decoder_agree_with_the_published_ones(path):
    vectors = load_file(path)
    config, state_dict = convert_published_phenotype_vae(_published(vectors))
    model = CPGGPhenotypeVAE(**config)
    model.load_state_dict(state_dict)
    model.eval()
    with torch.no_grad():
        mean, logvar = model.encode(vectors["x"])
        decoded = model.decode(vectors["z"])
    assert _relative_error(mean, vectors["mu"]) < 1e-5
    assert _relative_error(logvar, vectors["logvar"]) < 1e-5
    assert _relative_error(decoded, vectors["decoded"]) < 1e-5


@pytest.fixture
def published():
    return _published(load_file(VECTORS[0]))


@pytest.mark.parametrize("name", ["classifier.weight", "latent_mean.weight"])  # the latter is a name of this package
def test_an_unknown_tensor_is_refused(published, name):
    with pytest.raises(ValueError, match=f"'{name}' is not a tensor"):
        convert_published_phenotype_vae({**published, name: torch.zeros_like(published["fc_mu.weight"])})


@pytest.mark.parametrize("name", ["fc_mu.weight", "decoder.4.running_var", "final_layer.bias", "encoder.3.weight"])
def test_a_missing_tensor_is_refused(published, name):
    del published[name]
    with pytest.raises(ValueError, match=r"lacks|missing"):
        convert_published_phenotype_vae(published)


def test_a_tensor_of_the_wrong_shape_is_refused(published):
    published["decoder_input.weight"] = torch.zeros(3, 3)
    with pytest.raises(ValueError, match=r"'decoder_input\.weight' has shape"):
        convert_published_phenotype_vae(published)


def test_the_default_is_the_published_architecture():
    model = CPGGPhenotypeVAE()
    widths = [layer.out_features for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    assert widths == [128, 128, 128, 32, 32, 128, 128, 128, 82, 82]
