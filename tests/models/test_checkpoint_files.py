"""A model's folder is checked before it is loaded: whatever is wrong with it is one sentence that names the file."""

import json
import os

import pytest
import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file, save_file

from cpgg_hf.errors import CheckpointError
from cpgg_hf.models.checkpoint_files import check_model
from cpgg_hf.segmentation.segmenter import CineSegmenter

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path):
    CineSegmenter(block_out_channels=(4, 8), norm_num_groups=2).save_pretrained(tmp_path)
    return tmp_path


def change_config(folder, **settings):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def change_weights(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def flip_a_byte(folder):
    path = folder / "config.json"
    path.write_bytes(b"\xff" + path.read_bytes()[1:])


def pipe_as_weights(folder):
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)


def test_a_whole_model_passes(folder):
    check_model(folder, CineSegmenter)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_byte, "config.json is missing or damaged"),
        (lambda folder: (folder / "config.json").write_text("{}"), "config.json describes no model"),
        (lambda folder: change_config(folder, _class_name="VQModel"), "describes VQModel, not CineSegmenter"),
        (pipe_as_weights, f"{WEIGHTS} is not a file"),
        (lambda folder: (folder / "config.json").write_text("[" * 100_000), "config.json is missing or damaged"),
        (
            lambda folder: change_config(folder, layers_per_block=10**8),
            "layers_per_block can be at most 64, given 1000",
        ),
        (lambda folder: change_config(folder, block_out_channels=[8] * 10**4), "block_out_channels can be at most"),
        (
            lambda folder: change_config(folder, norm_num_groups=3),
            "config.json is not a valid configuration of CineSegmenter",
        ),
        (
            lambda folder: change_config(folder, norm_num_groups="two"),
            "config.json is not a valid configuration of CineSegmenter",
        ),
        (
            lambda folder: change_config(folder, block_out_channels=(4, 16)),
            r"has shape \(8.*expects \(16.*of the same checkpoint",
        ),
        (lambda folder: change_weights(folder, lambda tensors: tensors.popitem()), "lacks 1 tensors"),
        (
            lambda folder: change_weights(folder, lambda tensors: tensors.update(extra=torch.ones(1))),
            "contains .*'extra'",
        ),
        (
            lambda folder: change_weights(folder, lambda tensors: tensors["conv_in.bias"].fill_(torch.nan)),
            "NaN or infinite",
        ),
        (
            lambda folder: change_weights(folder, lambda tensors: tensors["conv_in.bias"].fill_(torch.inf)),
            "NaN or infinite",
        ),
        (lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-4]), "is damaged"),
        (lambda folder: torch.save({"a": torch.ones(3)}, folder / WEIGHTS), "is damaged"),
        (lambda folder: (folder / WEIGHTS).rename(folder / "model.pt"), "model.pt is a pickle"),
        (lambda folder: (folder / WEIGHTS).unlink(), "contains no .safetensors file"),
    ],
)
def test_a_damaged_model_is_one_sentence(folder, damage, message):
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        check_model(folder, CineSegmenter)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_another_librarys_model_is_named(tmp_path):
    UNet2DModel(
        sample_size=8,
        block_out_channels=(4,),
        norm_num_groups=2,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    ).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="describes UNet2DModel, not CineSegmenter"):
        check_model(tmp_path, CineSegmenter)
