"""Agreement with the published implementation: its recorded tensors, reproduced to 1e-5 relative.

`CPGG_PARITY_DIR` names a folder of other recorded configurations of the same form; `pytest -s` shows the errors.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cpgg_hf.models.converters import EXTRA_NAMES, UNUSED_PREFIXES, convert_published_mar
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel
from cpgg_hf.models.scheduling_cpgg_ddpm import CPGGDDPMScheduler
from cpgg_hf.models.token_diffusion import sample_tokens, token_diffusion_loss

TOLERANCE = 1e-5
VECTORS = Path(os.environ.get("CPGG_PARITY_DIR", Path(__file__).parents[1] / "data" / "parity"))
FOLDERS = sorted(path.parent for path in VECTORS.glob("*/config.json"))


class Published:
    """One recorded configuration: its tensors, and our model holding its weights."""

    def __init__(self, folder: Path):
        self.name = folder.name
        self.sizes = json.loads((folder / "config.json").read_text())
        tensors = load_file(folder / "mar.safetensors")
        self.state = {name.removeprefix("state."): t for name, t in tensors.items() if name.startswith("state.")}
        self.vectors = {name: tensor for name, tensor in tensors.items() if not name.startswith("state.")}
        self.config, converted = convert_published_mar(self.state, self.sizes)
        self.model = CPGGMARModel(self.config).eval()
        self.model.load_state_dict(converted)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.vectors[name]


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def published(request) -> Published:
    return Published(request.param)


def check(published: Published, name: str, ours: torch.Tensor, reference: torch.Tensor | None = None) -> None:
    reference = published[name] if reference is None else reference
    assert ours.shape == reference.shape
    error = float((ours - reference).norm() / reference.norm())
    print(f"\n{published.name:>12}  {name:<18} {error:.1e}", end="")
    assert error <= TOLERANCE


def visible_positions(published: Published) -> torch.Tensor:
    return torch.stack([(row == 0).nonzero().flatten() for row in published["mask"]])


def all_positions(published: Published) -> torch.Tensor:
    return torch.arange(published.config.num_tokens).expand(len(published["mask"]), -1)


@torch.no_grad()
def conditioning(published: Published, dropped: bool) -> torch.Tensor:
    return published.model(
        published["latents"],
        published["phenotypes"],
        mask=published["mask"],
        positions=all_positions(published),
        drop_condition=torch.full((3,), dropped),
        return_loss=False,
    ).z


def test_there_are_vectors():
    assert FOLDERS, f"no recorded configurations in {VECTORS}"


def test_patchify(published):
    tokens = published.model.patchify(published["latents"])
    assert torch.equal(tokens, published["tokens"])
    assert torch.equal(published.model.unpatchify(tokens), published["unpatchified"])


@torch.no_grad()
def test_encoder(published):
    condition = published.model.embed_phenotypes(published["phenotypes"])
    encoded = published.model.encode(published["tokens"], visible_positions(published), condition)
    check(published, "encoder_out", encoded)


@torch.no_grad()
def test_decoder(published):
    visible = visible_positions(published)
    decoded = published.model.decode(published["encoder_out"], visible, all_positions(published))
    check(published, "decoder_out", decoded)


def test_z_with_condition(published):
    check(published, "z_cond", conditioning(published, dropped=False))


def test_z_without_condition(published):
    check(published, "z_uncond", conditioning(published, dropped=True))


@torch.no_grad()
def test_head(published):
    check(published, "eps_var", published.model.diffusion_head(published["xt"], published["t"], published["c"]))


@pytest.fixture(scope="module")
def losses(published) -> dict[str, torch.Tensor]:
    arguments = (published[name] for name in ("x0", "c", "noise", "t"))
    with torch.no_grad():
        mse, vlb = token_diffusion_loss(published.model.diffusion_head, *arguments)
    return {"loss_mse": mse, "loss_vb": vlb, "loss": mse + vlb}


@pytest.mark.parametrize("name", ["loss_mse", "loss_vb", "loss"])
def test_loss(published, losses, name):
    check(published, name, losses[name])


@pytest.mark.parametrize(
    ("name", "guidance_scale", "temperature"),
    [("chain_plain", 1.0, 1.0), ("chain_cfg3", 3.0, 1.0), ("chain_cfg3_temp09", 3.0, 0.9)],
)
def test_reverse_chain(published, monkeypatch, name, guidance_scale, temperature):
    """The chain as decoding runs it, on the recorded noise: four samples of one token each."""
    scheduler = CPGGDDPMScheduler()
    scheduler.set_timesteps(published.sizes["steps"])
    assert sorted(scheduler.timesteps.tolist()) == sorted(published["timestep_map"].tolist())

    z = published["chain_c"]
    if guidance_scale != 1.0:
        z = torch.cat([z, published["chain_c_uncond"]])
    recorded = iter(published["chain_noise"].unbind(1))  # one (steps, D) a sample, of one token

    def replay(shape, **kwargs):
        return next(recorded).reshape(shape)

    monkeypatch.setattr("cpgg_hf.models.token_diffusion.torch.randn", replay)
    tokens = sample_tokens(
        published.model.diffusion_head,
        z.unsqueeze(1),
        published["chain_init"].unsqueeze(1),
        scheduler,
        [None] * 4,
        guidance_scale,
        temperature,
    )
    check(published, name, tokens.squeeze(1))


def test_conversion_accounts_for_every_tensor(published):
    _, converted = convert_published_mar(published.state, published.sizes)
    used = sum(t.numel() for name, t in published.state.items() if not name.startswith(UNUSED_PREFIXES))
    extra = sum(converted[name].numel() for name in EXTRA_NAMES)
    assert sum(tensor.numel() for tensor in converted.values()) == used + extra
    assert all(not converted[name].any() for name in EXTRA_NAMES)


@pytest.mark.parametrize("change", ["unknown", "missing"])
def test_conversion_names_the_tensor_that_does_not_fit(published, change):
    state = dict(published.state)
    if change == "unknown":
        state["surprise.weight"] = torch.zeros(1)
    else:
        del state["encoder_norm.bias"]
    with pytest.raises(ValueError, match=rf"{change}.*(surprise\.weight|encoder_norm\.bias)"):
        convert_published_mar(state, published.sizes)


def test_conversion_names_the_tensor_of_wrong_shape(published):
    state = published.state | {"z_proj.weight": torch.zeros(3, 3)}
    with pytest.raises(ValueError, match=r"token_projection\.weight"):
        convert_published_mar(state, published.sizes)
