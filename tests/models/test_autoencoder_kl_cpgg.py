import json
import math

import pytest
import torch
from accelerate.utils import convert_outputs_to_fp32
from diffusers import AutoencoderKL
from torch.utils.flop_counter import FlopCounterMode

from cpgg_hf.models.autoencoder_kl_cpgg import (
    AutoencoderKLCPGG,
    DiagonalGaussianDistribution,
    patchify,
    unpatchify,
)

SMALL = {
    "block_out_channels": (8, 16),
    "temporal_factors": (5,),
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "patch_size": (2, 2, 2),
    "sample_size": (20, 16, 16),
}


@pytest.fixture(autouse=True)
def _one_seed():
    torch.manual_seed(0)


@pytest.fixture
def model():
    return AutoencoderKLCPGG(**SMALL).eval()


@pytest.fixture
def cines():
    return torch.rand(2, 1, 20, 16, 16) * 2 - 1


def autoencoder_2d(**config):
    levels = len(config["block_out_channels"])
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        **config,
    )


# --- the published configuration, and what it mirrors


def test_default_configuration_has_the_papers_sizes_and_cost():
    with torch.device("meta"):
        model = AutoencoderKLCPGG()
        cine = torch.empty(1, 1, 50, 96, 96)
        with FlopCounterMode(display=False) as encoding:
            latents = model.encode(cine).latent_dist.mode()
        with FlopCounterMode(display=False) as decoding:
            reconstruction = model.decode(latents).sample
    assert latents.shape == (1, 16, 25, 12, 12)
    assert model.latent_size == (16, 25, 12, 12)
    assert model.compression == (2, 8, 8)
    assert reconstruction.shape == cine.shape
    assert encoding.get_total_flops() == pytest.approx(5.2e12, rel=0.02)
    assert 10e12 < decoding.get_total_flops() < 15e12


def test_parameters_are_those_of_autoencoder_kl_with_a_time_axis():
    config = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 16}
    with torch.device("meta"):
        flat, ours = autoencoder_2d(**config).state_dict(), AutoencoderKLCPGG().state_dict()
    assert set(ours) == set(flat)
    for name, weight in ours.items():
        shape = list(flat[name].shape)
        expected = shape if len(shape) < 4 else [*shape[:2], shape[-1], *shape[2:]]
        assert list(weight.shape) == expected, name


def test_only_long_temporal_factors_and_the_stem_leave_the_2d_shapes():
    config = {"block_out_channels": (8, 16), "layers_per_block": 1, "latent_channels": 4, "norm_num_groups": 4}
    flat = autoencoder_2d(**config).state_dict()
    ours = AutoencoderKLCPGG(**config, temporal_factors=(5,), patch_size=(2, 4, 4)).state_dict()
    assert set(ours) == set(flat)
    others = {name for name in ours if flat[name].ndim == 4 and ours[name].shape[3:] != flat[name].shape[2:]}
    longer = {name for name in ours if flat[name].ndim == 4 and ours[name].shape[2] != flat[name].shape[2]}
    wider = {name for name in ours if ours[name].shape[:2] != flat[name].shape[:2]}
    assert others == set()
    assert longer == {"encoder.down_blocks.0.downsamplers.0.conv.weight"}
    assert wider == {"encoder.conv_in.weight", "decoder.conv_out.weight", "decoder.conv_out.bias"}


@pytest.mark.parametrize("attention", [True, False])
def test_inflated_2d_weights_reproduce_autoencoder_kl_on_a_single_frame(attention):
    config = {
        "block_out_channels": (8, 16, 16),
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "mid_block_add_attention": attention,
    }
    flat = autoencoder_2d(**config).eval()
    ours = AutoencoderKLCPGG(**config, temporal_factors=(1, 1), sample_size=(1, 32, 24)).eval()
    inflated = {}
    for name, weight in ours.state_dict().items():
        source = flat.state_dict()[name]
        if weight.ndim == 5:  # the 2D kernel in the middle frame, zeros around it
            inflated[name] = torch.zeros_like(weight)
            inflated[name][:, :, weight.shape[2] // 2] = source
        else:
            inflated[name] = source
    ours.load_state_dict(inflated)

    image = torch.rand(2, 1, 32, 24) * 2 - 1
    with torch.no_grad():
        expected, actual = flat.encode(image).latent_dist, ours.encode(image.unsqueeze(2)).latent_dist
        torch.testing.assert_close(actual.mean.squeeze(2), expected.mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(actual.logvar.squeeze(2), expected.logvar, rtol=1e-4, atol=1e-5)
        decoded = ours.decode(actual.mode()).sample.squeeze(2)
        torch.testing.assert_close(decoded, flat.decode(expected.mode()).sample, rtol=1e-4, atol=1e-5)


def test_time_shrinks_where_the_temporal_factors_say():
    factors = (1, 2, 5)
    config = {**SMALL, "block_out_channels": (8, 8, 8, 8), "patch_size": (1, 1, 1), "sample_size": (20, 16, 16)}
    model = AutoencoderKLCPGG(**{**config, "temporal_factors": factors})
    frames = []
    for block in (*model.encoder.down_blocks, *model.decoder.up_blocks):
        block.register_forward_hook(lambda _block, _inputs, output: frames.append(output.shape[2]))
    reconstruction = model(torch.zeros(1, 1, 20, 16, 16)).sample
    assert frames == [20, 10, 2, 2, 10, 20, 20, 20]
    assert reconstruction.shape == (1, 1, 20, 16, 16)


def test_the_small_checkpoints_grid():
    with torch.device("meta"):
        model = AutoencoderKLCPGG(block_out_channels=(64, 192), temporal_factors=(5,), patch_size=(2, 4, 4))
        latents = model.encode(torch.empty(1, 1, 50, 96, 96)).latent_dist.mode()
    assert latents.shape[1:] == model.latent_size == (16, 5, 12, 12)


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_every_frame_reaches_the_latents(factor):
    config = {**SMALL, "temporal_factors": (factor,), "patch_size": (1, 1, 1), "sample_size": (30, 4, 4)}
    downsampler = AutoencoderKLCPGG(**config).encoder.down_blocks[0].downsamplers[0]
    hidden_states = torch.randn(1, 8, 30, 4, 4, requires_grad=True)
    downsampled = downsampler(hidden_states)
    assert downsampled.shape == (1, 8, 30 // factor, 2, 2)
    downsampled.sum().backward()
    assert (hidden_states.grad.abs().sum((0, 1, 3, 4)) > 0).all()


def test_unpatchify_undoes_patchify_and_patches_are_local():
    cine = torch.arange(2 * 10 * 8 * 12.0).reshape(1, 2, 10, 8, 12)
    patches = patchify(cine, (5, 2, 4))
    assert patches.shape == (1, 2 * 40, 2, 4, 3)
    assert torch.equal(unpatchify(patches, (5, 2, 4)), cine)
    expected = cine[0, :, 5:10, 2:4, 8:12].flatten()
    assert torch.equal(patches[0, :, 1, 1, 2], expected)


# --- the posterior


@pytest.mark.parametrize("shape", [(3, 8, 2, 3, 5), (3, 8)])
def test_kl_is_the_closed_form_summed_over_everything_but_the_batch(shape):
    parameters, others = torch.randn(2, *shape)
    posterior, other = DiagonalGaussianDistribution(parameters), DiagonalGaussianDistribution(others)
    normal = torch.distributions.Normal(posterior.mean, posterior.std)
    standard = torch.distributions.Normal(torch.zeros_like(posterior.mean), 1.0)
    expected = torch.distributions.kl_divergence(normal, standard).flatten(1).sum(1)
    torch.testing.assert_close(posterior.kl(), expected)
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(other.mean, other.std))
    torch.testing.assert_close(posterior.kl(other), expected.flatten(1).sum(1))
    assert torch.equal(DiagonalGaussianDistribution(parameters, deterministic=True).kl(), torch.zeros(3))


def test_half_precision_posteriors_are_computed_in_float32():
    parameters = torch.cat([torch.full((1, 2, 1, 1, 1), 0.1), torch.full((1, 2, 1, 1, 1), 19.0)], dim=1).half()
    posterior = DiagonalGaussianDistribution(parameters)
    assert posterior.kl().item() == pytest.approx(math.exp(19.0), rel=1e-3)  # overflows float16
    assert posterior.mode().dtype == posterior.sample().dtype == torch.float16


def test_samples_have_the_posteriors_moments():
    mean, logvar = torch.tensor([1.5, -0.5]), torch.tensor([-2.0, 1.0])
    parameters = torch.cat([mean, logvar]).view(1, 4, 1, 1, 1).expand(1, 4, 20, 50, 50)
    sample = DiagonalGaussianDistribution(parameters).sample(torch.Generator().manual_seed(1))
    torch.testing.assert_close(sample.mean((0, 2, 3, 4)), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(sample.std((0, 2, 3, 4)), (0.5 * logvar).exp(), rtol=0.03, atol=0)


# --- the calls


def test_forward_is_encode_then_decode(model, cines):
    with torch.no_grad():
        posterior = model.encode(cines).latent_dist
        output = model(cines)
        torch.testing.assert_close(output.sample, model.decode(posterior.mode()).sample)
        torch.testing.assert_close(output.latent_dist.mean, posterior.mean)
        drawn = model(cines, sample_posterior=True, generator=torch.Generator().manual_seed(3)).sample
        latents = posterior.sample(torch.Generator().manual_seed(3))
        torch.testing.assert_close(drawn, model.decode(latents, return_dict=False)[0])
        assert (drawn - output.sample).abs().max() > 1e-3
        assert torch.equal(model(cines, return_dict=False)[0], output.sample)
        assert torch.equal(model.encode(cines, return_dict=False)[0].mean, posterior.mean)


def test_accelerates_mixed_precision_wrapper_keeps_the_posterior(model, cines):
    wrapped = convert_outputs_to_fp32(model.forward)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = wrapped(cines)
    assert output.sample.dtype == torch.float32
    assert output.latent_dist.kl().shape == (2,)


def test_every_parameter_gets_a_gradient(model, cines):
    output = model(cines, sample_posterior=True)
    (output.sample.abs().mean() + output.latent_dist.kl().mean()).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    without_effect = [name for name, weight in model.named_parameters() if not weight.grad.any()]
    assert without_effect == []


def test_gradient_checkpointing_changes_memory_not_gradients(model, cines):
    def gradients():
        model.zero_grad()
        model(cines).sample.square().mean().backward()
        return [weight.grad.clone() for weight in model.parameters()]

    plain = gradients()
    calls = []
    model.enable_gradient_checkpointing()
    model.encoder.mid_block.register_forward_pre_hook(lambda *_: calls.append(1))
    for expected, actual in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(actual, expected)
    assert len(calls) == 2  # once forward, once more for the backward pass


def test_saved_model_comes_back_as_it_was(model, cines, tmp_path):
    model.register_to_config(latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[1.0, 2.0, 3.0, 4.0])
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "data_policy.json",
        "diffusion_pytorch_model.safetensors",
    }
    assert json.loads((tmp_path / "config.json").read_text())["latents_std"] == [1.0, 2.0, 3.0, 4.0]
    loaded = AutoencoderKLCPGG.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(cines).sample, model(cines).sample)
    latents = torch.randn(1, 4, 2, 4, 4)
    assert torch.equal(loaded.standardise(latents), model.standardise(latents))


def test_standardised_latents_have_zero_mean_and_unit_deviation(cines):
    model = AutoencoderKLCPGG(**SMALL)
    with torch.no_grad():
        latents = model.encode(cines).latent_dist.mode()
    assert torch.equal(model.standardise(latents), latents)  # nothing known: nothing done
    moments = {"latents_mean": latents.mean((0, 2, 3, 4)).tolist(), "latents_std": latents.std((0, 2, 3, 4)).tolist()}
    model = AutoencoderKLCPGG(**SMALL, **moments)
    standardised = model.standardise(latents)
    torch.testing.assert_close(standardised.mean((0, 2, 3, 4)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(standardised.std((0, 2, 3, 4)), torch.ones(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(model.unstandardise(standardised), latents)


def test_half_and_mixed_precision_agree_with_float32(model, cines):
    with torch.no_grad():
        expected = model(cines).sample
        with torch.autocast("cpu", torch.bfloat16):
            posterior = model.encode(cines).latent_dist
            mixed = model.decode(posterior.mode()).sample
        half = model.to(torch.bfloat16)(cines.bfloat16())
    assert posterior.mode().dtype == mixed.dtype == torch.float32
    assert half.sample.dtype == half.latent_dist.mode().dtype == torch.bfloat16
    for actual in (mixed, half.sample.float()):
        assert (actual - expected).abs().max() < 0.05 * expected.abs().max()


# --- slicing


def test_slicing_gives_the_same_cines(model, cines):
    sizes = []
    model.encoder.register_forward_hook(lambda _module, inputs, _output: sizes.append(inputs[0].shape[0]))
    with torch.no_grad():
        expected = model(cines)
        model.enable_slicing()
        actual = model(cines)
    assert sizes == [2, 1, 1]
    torch.testing.assert_close(actual.sample, expected.sample)
    torch.testing.assert_close(actual.latent_dist.mean, expected.latent_dist.mean)


def test_tiling_is_refused(model):
    with pytest.raises(NotImplementedError, match="Tiling"):
        model.enable_tiling()


# --- errors


@pytest.mark.parametrize("size", [(21, 16, 16), (20, 15, 16), (20, 16, 18)])
def test_cines_that_do_not_divide_are_refused(model, size):
    with pytest.raises(ValueError, match=r"multiples of \(10, 4, 4\)"):
        model.encode(torch.zeros(1, 1, *size))


def test_tensors_of_the_wrong_shape_are_refused(model):
    with pytest.raises(ValueError, match=r"expects cines \(B, 1, T, H, W\), given .* \(2, 20, 16, 16\)"):
        model.encode(torch.zeros(2, 20, 16, 16))
    with pytest.raises(ValueError, match=r"expects latents \(B, 4, T', H', W'\)"):
        model.decode(torch.zeros(1, 16, 2, 4, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temporal_factors": (2, 2)}, "must be 1 positive integers"),
        ({"temporal_factors": (0,)}, "must be 1 positive integers"),
        ({"patch_size": (2, 2)}, "patch_size must be three"),
        ({"block_out_channels": (8, 18)}, "norm_num_groups=4"),
        ({"sample_size": (50, 16, 18)}, r"multiples of \(10, 4, 4\)"),
        ({"latents_mean": [0.0]}, "must have latent_channels=4 values, given 1"),
        ({"latents_std": [1.0, 1.0, 0.0, 1.0]}, "must be positive"),
    ],
)
def test_configurations_that_cannot_work_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderKLCPGG(**{**SMALL, **change})


def test_latent_noise_is_relative_to_each_channel():
    """An identity for a decoder shows the noise itself: its deviation is the given share of the channel's own."""
    torch.manual_seed(0)
    model = AutoencoderKLCPGG(
        block_out_channels=(4, 4), temporal_factors=(1,), layers_per_block=1, latent_channels=2, norm_num_groups=2,
        sample_size=(8, 32, 32), mid_block_add_attention=False,
    )  # fmt: skip
    decoded = []
    model.decode = lambda latents: decoded.append(latents) or type("Output", (), {"sample": latents})
    cine = torch.randn(2, 1, 8, 32, 32)
    with torch.no_grad():
        clean = model(cine).latent_dist.mode()
        model(cine, latent_noise=0.3)
    ratio = (decoded[1] - clean).std(dim=(0, 2, 3, 4)) / clean.std(dim=(0, 2, 3, 4))
    torch.testing.assert_close(ratio, torch.full((2,), 0.3), rtol=0.05, atol=0.0)
