"""A network inherits the strictest policy of everything that its stage's arguments declare as a source."""

import importlib
import json
import pkgutil
import re
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
from diffusers import AutoencoderKL

from cpgg_hf.data_policy import strictest
from cpgg_hf.errors import TrainingError
from cpgg_hf.files.policy_record import record_policy
from cpgg_hf.segmentation.segmenter import CineSegmenter
from cpgg_hf.training import stages
from cpgg_hf.training.arguments import argument, is_free_text
from cpgg_hf.training.stage import Stage, source_policies
from cpgg_hf.training.stages.mar import MARStage
from cpgg_hf.training.stages.phenotype_vae import PhenotypeVAEStage
from cpgg_hf.training.stages.scan_segmenter import ScanSegmenterStage
from cpgg_hf.training.stages.vae import VAEArguments, VAEStage

from .conftest import TINY_MAR, TINY_PHENOTYPE_VAE, TINY_VAE, run, save_vae, write_data

MODULES = [
    importlib.import_module(f"{stages.__name__}.{module.name}") for module in pkgutil.iter_modules(stages.__path__)
]
STAGES = sorted(
    {
        value
        for module in MODULES
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Stage) and value is not Stage
    },
    key=lambda stage: stage.name,
)
NAMES_A_PLACE = re.compile(
    r"(^|_)(data|dir|folder|path|file|repo|hub_model_id|network|vae|mar|segmenter|init_from|adapter|checkpoint|cache|weights)(_|$)"
)
READS_A_PLACE = re.compile(r"\b(folder|repository|csv|file)\b", re.IGNORECASE)


def arguments_of(stage):
    kinds = get_type_hints(stage.arguments_class)
    return [(entry, kinds[entry.name]) for entry in fields(stage.arguments_class) if entry.init]


def sources_of(stage):
    return [entry.name for entry, _ in arguments_of(stage) if entry.metadata.get("source") in ("model", "dataset")]


def policies_in(folder):
    return {part: json.loads((folder / part / "config.json").read_text())["data_policy"] for part in ("model", "ema")}


def short(settings, **changes):
    return {**settings, "max_train_steps": 1, "lr_warmup_steps": 0, **changes}


def test_every_stage_is_looked_at():
    assert {stage.name for stage in STAGES} >= {"vae", "mar", "phenotype_vae", "cine_segmenter", "scan_segmenter"}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_every_argument_that_may_name_a_path_or_repository_declares_its_source(stage):
    for entry, kind in arguments_of(stage):
        numeric = kind in (bool, int, float, int | None, float | None)
        suspicious = NAMES_A_PLACE.search(entry.name) or READS_A_PLACE.search(entry.metadata["help"])
        if is_free_text(kind) or (suspicious and not numeric):
            assert entry.metadata.get("source") in ("model", "dataset", "phantoms", "none"), entry.name
        if entry.metadata.get("source") == "none":
            is_place = {
                "output_dir",
                "resume_from_checkpoint",
                "hub_model_id",
                "latent_cache",
            }  # written by the run, or compared with it by fingerprint
            assert entry.name in is_place or not NAMES_A_PLACE.search(entry.name), entry.name


@pytest.mark.parametrize(
    ("stage", "source"), [(stage, source) for stage in STAGES for source in sources_of(stage)], ids=str
)
def test_one_restricted_source_makes_the_network_restricted(stage, source, tmp_path):
    for policy in ("phantom", "restricted"):
        (tmp_path / policy).mkdir()
        (tmp_path / policy / "config.json").write_text(json.dumps({"data_policy": policy}))
        (tmp_path / policy / "model.safetensors").write_bytes(b"")
        record_policy(tmp_path / policy, policy, (tmp_path / policy).iterdir())
    given = {name: str(tmp_path / "phantom") for name in ("data", *sources_of(stage))}
    common = {"output_dir": str(tmp_path / "run"), "max_train_steps": 1}
    assert stage(stage.arguments_class(**common, **given)).data_policy() == "phantom"
    given[source] = str(tmp_path / "restricted")
    stated = {"source_policies": {source: "public"}}
    assert stage(stage.arguments_class(**common, **given)).data_policy() == "restricted"
    assert stage(stage.arguments_class(**common, **given, **stated)).data_policy() == "restricted"


def test_free_text_without_a_declaration_is_a_restricted_source(tmp_path):
    from dataclasses import dataclass

    @dataclass(kw_only=True)
    class NewArguments(VAEArguments):
        text_encoder: str | None = argument(None, "A folder.")

    data = str(write_data(tmp_path / "cines"))
    common = {"output_dir": "out", "data": data, "max_train_steps": 1}
    assert source_policies(NewArguments(**common)) == {"data": "phantom"}
    found = source_policies(NewArguments(**common, text_encoder="anything"))
    assert found == {"data": "phantom", "text_encoder": "restricted"}


@pytest.mark.parametrize("policy", ["phantom", "restricted"])
def test_networks_keep_the_policy_of_their_data_and_of_the_networks_before_them(settings, tmp_path, policy):
    data = str(write_data(tmp_path / "cines", policy=policy))
    run(VAEStage, TINY_VAE, short(settings, data=data, output_dir=str(tmp_path / "vae")))
    assert policies_in(tmp_path / "vae") == {"model": policy, "ema": policy}
    vae = str(tmp_path / "vae" / "ema")
    run(MARStage, TINY_MAR, short(settings, data=data, vae=vae, output_dir=str(tmp_path / "mar")))
    assert policies_in(tmp_path / "mar") == {"model": policy, "ema": policy}


def test_a_2d_autoencoder_and_a_perceptual_network_count_too(settings, tmp_path, capsys):
    torch.manual_seed(0)
    two_dimensional = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=[4, 4], norm_num_groups=2, mid_block_add_attention=False,
    )  # fmt: skip
    two_dimensional.save_pretrained(tmp_path / "vae_2d")
    segmenter = CineSegmenter(context_frames=(-1, 0, 1), block_out_channels=(4, 8), norm_num_groups=2)
    segmenter.register_to_config(data_policy="phantom")
    segmenter.save_pretrained(tmp_path / "segmenter")
    perceptual = {"perceptual_network": str(tmp_path / "segmenter"), "perceptual_weight": 0.1}

    run(VAEStage, TINY_VAE, short(settings, **perceptual))
    assert policies_in(tmp_path / "run") == {"model": "phantom", "ema": "phantom"}
    silent = {"init_from_2d": str(tmp_path / "vae_2d")}
    run(VAEStage, TINY_VAE, short(settings, **silent, output_dir=str(tmp_path / "inflated")))
    assert policies_in(tmp_path / "inflated")["model"] == "restricted"
    capsys.readouterr()
    stated = {"source_policies": {"init_from_2d": "public"}, "output_dir": str(tmp_path / "stated")}
    run(VAEStage, TINY_VAE, short(settings, **silent, **stated))
    assert policies_in(tmp_path / "stated")["model"] == "public"
    logged = "data policy: public (data phantom, init_from_2d public (stated by the user as public))"
    assert logged in capsys.readouterr().out
    state = json.loads((tmp_path / "stated" / "checkpoint-0000001" / "run_state.json").read_text())
    assert state["identity"]["arguments"]["source_policies"] == {"init_from_2d": "public"}

    segmenter.register_to_config(data_policy="restricted")
    segmenter.save_pretrained(tmp_path / "segmenter")
    run(VAEStage, TINY_VAE, short(settings, **perceptual, output_dir=str(tmp_path / "perceptual")))
    assert policies_in(tmp_path / "perceptual")["model"] == "restricted"


def test_the_weights_of_lpips_are_public(settings):
    arguments = VAEArguments(**settings, perceptual_network="lpips", perceptual_weight=0.1)
    assert source_policies(arguments) == {"data": "phantom", "perceptual_network": "public"}
    assert VAEStage(arguments).data_policy() == strictest(["public"])


def test_a_network_of_unknown_origin_makes_it_restricted_whatever_the_data(settings, tmp_path):
    data = str(write_data(tmp_path / "cines", policy="phantom"))
    unknown = str(save_vae(tmp_path / "vae"))  # states no policy
    run(MARStage, TINY_MAR, short(settings, data=data, vae=unknown, output_dir=str(tmp_path / "mar")))
    assert policies_in(tmp_path / "mar") == {"model": "restricted", "ema": "restricted"}


def test_a_setting_of_the_model_cannot_loosen_it(settings, tmp_path):
    data = str(write_data(tmp_path / "cines", policy="restricted"))
    run(VAEStage, {**TINY_VAE, "data_policy": "phantom"}, short(settings, data=data))
    assert policies_in(tmp_path / "run")["model"] == "restricted"


def test_tables_of_phenotypes_state_nothing_and_segmenters_render_their_own(settings, phenotype_tables, tmp_path):
    run(PhenotypeVAEStage, TINY_PHENOTYPE_VAE, short(settings, **phenotype_tables, batch_size=50))
    assert policies_in(tmp_path / "run")["model"] == "restricted"
    common = {"output_dir": str(tmp_path), "data": str(tmp_path), "max_train_steps": 1}
    segmenter = ScanSegmenterStage.arguments_class(**common)
    assert ScanSegmenterStage(segmenter).data_policy() == "phantom"
    CineSegmenter(block_out_channels=(4, 8), norm_num_groups=2).save_pretrained(tmp_path / "unknown")
    segmenter = ScanSegmenterStage.arguments_class(**common, init_from=str(tmp_path / "unknown"))
    assert ScanSegmenterStage(segmenter).data_policy() == "restricted"


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"init_from_3d": "public"}, "has no key 'init_from_3d'; the nearest is 'init_from_2d'"),
        ({"output_dir": "public"}, "has no key 'output_dir'"),
        ({"init_from": "open"}, "is 'open'; expected one of restricted, public, phantom"),
    ],
)
def test_a_statement_names_a_source_and_a_policy(settings, stated, message):
    with pytest.raises(TrainingError, match=message):
        VAEArguments(**settings, source_policies=stated)


def test_a_checkpoint_is_not_resumed_under_another_policy(settings, tmp_path):
    data = Path(write_data(tmp_path / "cines", policy="restricted"))
    run(VAEStage, TINY_VAE, {**settings, "data": str(data)}, max_seconds=0.0)
    path = tmp_path / "run" / "checkpoint-0000001" / "run_state.json"
    state = json.loads(path.read_text())
    state["identity"]["data_policy"] = "phantom"
    path.write_text(json.dumps(state))
    path.with_name("checksums.json").unlink()
    with pytest.raises(TrainingError, match="data_policy was phantom and is restricted"):
        run(VAEStage, TINY_VAE, {**settings, "data": str(data), "resume_from_checkpoint": "latest"})
