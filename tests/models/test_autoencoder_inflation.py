"""A 3D-VAE inflated from a 2D one equals it frame by frame on a static cine."""

import pytest
import torch
from diffusers import AutoencoderKL

from cpgg_hf.models.autoencoder_inflation import inflate
from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG

SMALL = {"block_out_channels": (8, 16, 16), "layers_per_block": 1, "latent_channels": 4, "norm_num_groups": 4}
LATENT_LAYERS = {"encoder.conv_out", "quant_conv", "post_quant_conv", "decoder.conv_in"}


def autoencoder_2d(channels=3, **config):
    torch.manual_seed(0)
    return AutoencoderKL(
        in_channels=channels, out_channels=channels, down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, **{**SMALL, **config},
    ).eval()  # fmt: skip


def inflated(flat, **config):
    torch.manual_seed(1)
    vae = AutoencoderKLCPGG(**{**SMALL, "temporal_factors": (1, 1), "sample_size": (6, 16, 16), **config}).eval()
    return vae, inflate(vae, flat)


def layers(names):
    return {name.rpartition(".")[0] for name in names}


def assert_every_frame_is(cine, image):
    expected = image.unsqueeze(2).expand(-1, -1, cine.shape[2], -1, -1)
    torch.testing.assert_close(cine, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def image():
    torch.manual_seed(2)
    return torch.rand(2, 1, 16, 16) * 2 - 1


@pytest.mark.parametrize("factors", [(1, 1), (1, 2), (2, 3), (6, 1)])
def test_on_a_static_cine_every_frame_is_that_of_the_2d_autoencoder(factors, image):
    """Encoded and decoded, with attention over all frames, whether time is kept, halved or divided further."""
    flat = autoencoder_2d()
    vae, origin = inflated(flat, temporal_factors=factors)
    cine = image.unsqueeze(2).expand(-1, -1, 6, -1, -1)
    with torch.no_grad():
        expected, posterior = flat.encode(image.expand(-1, 3, -1, -1)).latent_dist, vae.encode(cine).latent_dist
        assert posterior.mean.shape[2] == 6 // (factors[0] * factors[1])
        assert_every_frame_is(posterior.mean, expected.mean)
        assert_every_frame_is(posterior.logvar, expected.logvar)
        decoded = vae.decode(posterior.mode()).sample
        assert_every_frame_is(decoded, flat.decode(expected.mode()).sample.mean(1, keepdim=True))
    assert origin["summed"] == ["encoder.conv_in.weight"]
    assert origin["averaged"] == ["decoder.conv_out.weight", "decoder.conv_out.bias"]
    assert origin["new"] == []
    assert sorted(name for names in origin.values() for name in names) == sorted(vae.state_dict())


def test_where_time_is_kept_frames_of_a_moving_cine_do_not_mix_in_convolutions(image):
    """Group norms and attention do mix them; what lies before the first norm does not."""
    flat = autoencoder_2d(channels=1)
    vae, origin = inflated(flat)
    cine = torch.rand(1, 1, 6, 16, 16)
    torch.testing.assert_close(vae.encoder.conv_in(cine)[:, :, 2], flat.encoder.conv_in(cine[:, :, 2]))
    assert origin["summed"] == origin["averaged"] == []


def test_other_latents_leave_the_layers_around_them_new(image):
    """Weights of 4 channels for the 16 of the paper; what stands before the latents is still the 2D autoencoder's."""
    flat = autoencoder_2d()
    vae, origin = inflated(flat, latent_channels=16, temporal_factors=(1, 2), refiner_channels=4)
    torch.manual_seed(1)
    settings = {name: value for name, value in vae.config.items() if not name.startswith("_")}
    untouched = AutoencoderKLCPGG(**settings).state_dict()
    assert {layer for layer in layers(origin["new"]) if "refiner" not in layer} == LATENT_LAYERS
    assert all(torch.equal(vae.state_dict()[name], untouched[name]) for name in origin["new"])
    seen = []
    for model in (vae, flat):
        model.encoder.conv_norm_out.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        vae.encode(image.unsqueeze(2).expand(-1, -1, 6, -1, -1))
        flat.encode(image.expand(-1, 3, -1, -1))
        assert_every_frame_is(*seen)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"layers_per_block": 2},
            "layers_per_block is 1 in the 2D autoencoder but 2 in the 3D one; set layers_per_block to 1",
        ),
        ({"block_out_channels": (8, 8, 16)}, r"block_out_channels is \[8, 16, 16\] in the 2D autoencoder"),
        ({"patch_size": (1, 2, 2)}, r"patch_size must be .* given \[1, 2, 2\]"),
        ({"in_channels": 2}, r"'encoder.conv_in.weight' has shape \(8, 3, 3, 3\).*does not fit \(8, 2, 3, 3, 3\)"),
    ],
)
def test_an_autoencoder_built_otherwise_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        inflated(autoencoder_2d(), **config)
