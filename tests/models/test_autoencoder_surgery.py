"""A trained 3D-VAE loses latent channels or gains a refiner, and keeps what it has learned."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.models.autoencoder_surgery import add_refiner, keep_latent_channels, kl_per_channel


@pytest.fixture
def vae():
    torch.manual_seed(0)
    model = AutoencoderKLCPGG(
        block_out_channels=(4, 8), temporal_factors=(2,), layers_per_block=1, latent_channels=4, norm_num_groups=2,
        sample_size=(4, 16, 16), mid_block_add_attention=False, latents_mean=[0.5, -1.0, 0.2, 0.0],
        latents_std=[1.0, 2.0, 0.5, 1.0],
    )  # fmt: skip
    return model.eval()


def test_information_is_the_textbook_divergence():
    torch.manual_seed(1)
    mean, logvar = torch.randn(2, 3, 2, 2, 2), torch.randn(2, 3, 2, 2, 2)
    expected = kl_divergence(Normal(mean, (0.5 * logvar).exp()), Normal(0.0, 1.0)).mean(dim=(0, 2, 3, 4))
    torch.testing.assert_close(kl_per_channel(mean, logvar), expected)


def test_kept_channels_and_the_picture_stay(vae):
    torch.manual_seed(2)
    cine = torch.randn(1, 1, 4, 16, 16)
    smaller = keep_latent_channels(vae, [2, 0])
    with torch.no_grad():
        full, kept = vae.encode(cine).latent_dist, smaller.encode(cine).latent_dist
        torch.testing.assert_close(kept.mean, full.mean[:, [2, 0]])
        torch.testing.assert_close(kept.logvar, full.logvar[:, [2, 0]])
        latents = full.mean.clone()
        latents[:, 1], latents[:, 3] = -1.0, 0.0  # what a dropped channel is worth: its mean
        # Compared before any padding: the decoder's first convolution away from the borders.
        expected = vae.decoder.conv_in(vae.post_quant_conv(latents))[..., 1:-1, 1:-1, 1:-1]
        given = smaller.decoder.conv_in(smaller.post_quant_conv(kept.mean))[..., 1:-1, 1:-1, 1:-1]
        torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)
    assert smaller.config.latents_mean == [0.2, 0.5]
    assert smaller.config.latents_std == [0.5, 1.0]


def test_unknown_or_no_channels_are_refused(vae):
    for channels in ([], [4]):
        with pytest.raises(ValueError, match="0 to 3"):
            keep_latent_channels(vae, channels)


def test_a_new_refiner_changes_nothing_until_it_is_trained(vae):
    torch.manual_seed(3)
    latents = torch.randn(1, 4, 2, 8, 8)
    refined = add_refiner(vae, 2)
    with torch.no_grad():
        torch.testing.assert_close(refined.decode(latents).sample, vae.decode(latents).sample)
        refined.decoder.refiner.conv_out.weight.normal_()
        assert not torch.allclose(refined.decode(latents).sample, vae.decode(latents).sample)
    with pytest.raises(ValueError, match="already"):
        add_refiner(refined, 2)
