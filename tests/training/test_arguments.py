"""Settings from YAML and flags."""

import subprocess
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from diffusers.optimization import SchedulerType

from cpgg_hf.errors import TrainingError
from cpgg_hf.models import modeling_cpgg_mar
from cpgg_hf.models.configuration_cpgg_mar import CPGGMARConfig
from cpgg_hf.models.phenotype_vae import CPGGPhenotypeVAE
from cpgg_hf.training.arguments import TrainingArguments
from cpgg_hf.training.configuration import parse_arguments
from cpgg_hf.training.data_order import BatchPlan
from cpgg_hf.training.stages.cine_segmenter import CineSegmenterStage
from cpgg_hf.training.stages.mar import MARArguments, MARStage
from cpgg_hf.training.stages.phenotype_vae import PhenotypeVAEStage
from cpgg_hf.training.stages.scan_segmenter import ScanSegmenterStage
from cpgg_hf.training.stages.vae import VAEArguments, VAEStage

CONFIGS = Path(__file__).parents[2] / "training_scripts" / "configs"
LAUNCH = CONFIGS.with_name("launch")
NEEDED = ["--output_dir", "out", "--data", "cines", "--max_train_steps", "3"]


def write(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return ["--config", str(path)]


def missing(text):
    """The required flags that a configuration does not hold."""
    return [
        part for pair in zip(NEEDED[::2], NEEDED[1::2], strict=True) if f"{pair[0][2:]}:" not in text for part in pair
    ]


def test_flags_override_the_file(tmp_path):
    config = write(tmp_path, "learning_rate: 3e-4\nuse_ema: false\nbatch_size: 5\nmodel:\n  latent_channels: 4\n")
    flags = ["--batch_size", "7", "--model.latent_channels", "8", "--model.patch_size=[1, 2, 2]"]
    arguments = parse_arguments(VAEArguments, [*config, *NEEDED, *flags])
    assert (arguments.learning_rate, arguments.use_ema, arguments.batch_size) == (3e-4, False, 7)
    assert arguments.model == {"latent_channels": 8, "patch_size": [1, 2, 2]}


def test_numbers_in_exponent_form_are_numbers(tmp_path):
    config = write(tmp_path, "model:\n  layer_norm_eps: 1e-6\n  name: e-6\n")
    assert parse_arguments(MARArguments, [*config, *NEEDED, "--vae", "v"]).model == {
        "layer_norm_eps": 1e-6,
        "name": "e-6",
    }


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("lerning_rate: 1\n", [], "has no key 'lerning_rate'; the nearest is 'learning_rate'"),
        ("", ["--bach-size", "3"], "command line has no key 'bach_size'; the nearest is 'batch_size'"),
        ("", ["stray"], "'stray' on the command line"),
        ("- a\n- b\n", [], "must have `key: value` lines"),
        ("a: [1\n", [], "cannot read the configuration"),
        ("seed: 1\nbatch_size: 2\nseed: 2\n", [], "the key 'seed' is given twice, again in line 3"),
        ("model:\n  a: 1\n  a: 2\n", [], "the key 'a' is given twice, again in line 3"),
        ("model: 3\n", [], "model is 3; expected `key: value` lines"),
        ("batch_size: 0\n", [], "batch_size must be at least 1 and at most 1048576, given 0"),
        ("batch_size: 2.5\n", [], "batch_size is 2.5; expected a whole number"),
        ("batch_size: true\n", [], "batch_size is True; expected a whole number"),
        ("batch_size: null\n", [], "batch_size is None; expected a whole number"),
        ("use_ema: 1\n", [], "use_ema is 1; expected true or false"),
        ("output_dir: 7\n", [], "expected text (in quotes if it looks like a number)"),
        ("learning_rate: fast\n", [], "learning_rate is 'fast'; expected a number"),
        ("learning_rate: .nan\n", [], "learning_rate must be at least 0 and at most 1, given nan"),
        ("max_grad_norm: 0\n", [], "max_grad_norm must be above 0 and at most 1000000.0, given 0.0"),
        ("ema_decay: 1.5\n", [], "ema_decay must be at least 0 and at most 1, given 1.5"),
        ("adam_betas: [0.9, 1]\n", [], "adam_betas must be at least 0 and below 1, given 1.0"),
        ("adam_betas: 0.9\n", [], "adam_betas is 0.9; expected a list"),
        ("lr_scheduler: nonsense\n", [], "lr_scheduler is 'nonsense'; expected one of linear, cosine"),
        ("learning_rate: 1e30\n", [], "learning_rate must be at least 0 and at most 1, given 1e+30"),
        ("learning_rate: 1e-8\nlr_scheduler: polynomial\n", [], "the polynomial schedule ends at 1e-07"),
        ("checkpoints_total_limit: -1\n", [], "checkpoints_total_limit must be at least 1, given -1"),
        ("max_train_steps: 0\n", [], "max_train_steps must be at least 1 and at most 1000000000, given 0"),
        ("num_workers: 100000\n", [], "num_workers must be at least 0 and at most 256"),
        ("batch_size: 1000000000\n", [], "batch_size must be at least 1 and at most 1048576"),
        ("discriminator_channels: 6\n", [], "discriminator_channels must be a multiple of 4, given 6"),
        ("seed: 4294967296\n", [], "seed must be at least 0 and at most 4294967295"),
        ("seed: 0x_\n", [], "cannot read the configuration"),
        ("output_dir: 2020-13-45\n", [], "cannot read the configuration"),
        ("seed: !!bool abc\n", [], "cannot read the configuration"),
        ("seed: !!timestamp abc\n", [], "cannot read the configuration"),
        (f"seed: 1{'0' * 400}\n", [], "seed has 401 digits"),
        (f"learning_rate: 1{'0' * 400}\n", [], "learning_rate has 401 digits"),
        (f"model: {'{a: ' * 1500}1{'}' * 1500}\n", [], "cannot read the configuration"),
        ("", ["--seed", "0x_"], "seed is '0x_'; expected a whole number"),
        ("report_to: nowhere\n", [], "report_to is 'nowhere'; expected one of none, tensorb"),
        ("mixed_precision: true\n", [], "mixed_precision is True; expected one of no, fp16, bf16"),
        ("source_policies: public\n", [], "source_policies is 'public'; expected `key: value` lines"),
        ("", ["--batch_size", "many"], "batch_size is 'many'; expected a whole number"),
        ("", ["--source_policies", "public"], "source_policies takes NAME=VALUE, given public"),
    ],
)
def test_mistakes_are_named(tmp_path, text, flags, message):
    with pytest.raises(TrainingError) as raised:
        parse_arguments(VAEArguments, [*write(tmp_path, text), *missing(text), *flags])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith(".")


def test_merge_keys_are_read(tmp_path):
    config = write(tmp_path, "model:\n  <<: {patch_size: 1, num_layers: 2}\n  patch_size: 2\n")
    assert parse_arguments(MARArguments, [*config, *NEEDED, "--vae", "v"]).model == {"patch_size": 2, "num_layers": 2}


def test_schedules_are_those_of_diffusers():
    names = {name.value for name in SchedulerType} - {"piecewise_constant"}  # needs rules that no argument gives
    assert set(get_args(get_type_hints(TrainingArguments)["lr_scheduler"])) == names


def test_a_file_that_is_not_utf_8_is_one_sentence(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("# Größe\nbatch_size: 2\n".encode("latin-1"))
    with pytest.raises(TrainingError, match="not UTF-8 text; save it as UTF-8"):
        parse_arguments(VAEArguments, ["--config", str(path), *NEEDED])


def test_yaml_spellings_of_no_and_of_nothing(tmp_path):
    config = write(tmp_path, "mixed_precision: no\ncheckpoints_total_limit: null\nlearning_rate: 1\nmodel:\n")
    arguments = parse_arguments(VAEArguments, [*config, *NEEDED])
    assert (arguments.mixed_precision, arguments.checkpoints_total_limit, arguments.model) == ("no", None, {})
    assert isinstance(arguments.learning_rate, float)


def test_flags_of_every_type():
    flags = ["--use-ema", "false", "--streaming", "--adam_betas", "0.5", "0.9", "--mixed_precision", "no"]
    flags += ["--learning_rate=1e-3", "--source_policies", "data=public", "init_from=phantom", "--hub_model_id", "123"]
    arguments = parse_arguments(VAEArguments, [*NEEDED, *flags])
    assert (arguments.use_ema, arguments.streaming, arguments.adam_betas) == (False, True, [0.5, 0.9])
    assert (arguments.mixed_precision, arguments.learning_rate, arguments.hub_model_id) == ("no", 1e-3, "123")
    assert arguments.source_policies == {"data": "public", "init_from": "phantom"}


def test_missing_arguments_are_named():
    with pytest.raises(TrainingError, match="output_dir and vae must be given"):
        parse_arguments(MARArguments, ["--data", "cines", "--max_train_steps", "1"])


def test_a_length_is_demanded():
    with pytest.raises(TrainingError, match="set one of them"):
        parse_arguments(VAEArguments, NEEDED[:4])


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_is_one_of_its_stage(path):
    stages = (PhenotypeVAEStage, VAEStage, MARStage, CineSegmenterStage, ScanSegmenterStage)
    named = {**{stage.name: stage for stage in stages}, "lora": MARStage}
    stage = next(stage for name, stage in named.items() if f"_{name}" in path.stem)
    assert parse_arguments(stage.arguments_class, ["--config", str(path)]).output_dir.startswith("runs/")


@pytest.mark.parametrize("stage", [VAEStage, MARStage, CineSegmenterStage, ScanSegmenterStage, PhenotypeVAEStage])
def test_every_number_has_a_range(stage):
    kinds = get_type_hints(stage.arguments_class)
    numbers = [entry for entry in fields(stage.arguments_class) if entry.init and is_number(kinds[entry.name])]
    assert len(numbers) > 15
    assert [entry.name for entry in numbers if not {"minimum", "above"} & entry.metadata.keys()] == []
    fractions = [entry for entry in numbers if float in {kinds[entry.name], *get_args(kinds[entry.name])}]
    assert [entry.name for entry in fractions if not {"maximum", "below"} & entry.metadata.keys()] == []


def is_number(kind):
    return not {int, float, list[float]}.isdisjoint({kind, *get_args(kind)})


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*_mar.yaml")), ids=lambda path: path.stem)
def test_every_preset_of_the_mar_shows_pictures(path):
    assert parse_arguments(MARArguments, ["--config", str(path)]).generated_cines > 0


@pytest.mark.parametrize("recipe", ["smoke", "phantom_small", "phantom_base", "ukb_paper"])
def test_the_configurations_of_a_recipe_fit_together(recipe):
    """Every key is known, every network can be built, and each stage reads what the one before it writes."""
    stages = {"vae": VAEStage, "mar": MARStage, "phenotype_vae": PhenotypeVAEStage}
    arguments = {
        name: parse_arguments(stage.arguments_class, ["--config", str(CONFIGS / f"{recipe}_{name}.yaml")])
        for name, stage in stages.items()
    }
    with torch.device("meta"):
        vae = VAEStage(arguments["vae"]).build()
        CPGGPhenotypeVAE(**arguments["phenotype_vae"].model)
    sizes = zip(vae.config.sample_size, vae.compression, strict=True)
    latents = {
        "latent_channels": vae.config.latent_channels,
        "latent_size": tuple(size // factor for size, factor in sizes),
    }
    config = CPGGMARConfig(**{**arguments["mar"].model, **latents})
    assert config.num_tokens > 1
    assert len({entry.data for entry in arguments.values()}) == 1
    assert arguments["mar"].vae.startswith(arguments["vae"].output_dir)
    assert arguments["mar"].phenotype_vae.startswith(arguments["phenotype_vae"].output_dir)
    assert not arguments["phenotype_vae"].use_ema


@pytest.mark.parametrize("num_gpus", [1, 8])
@pytest.mark.parametrize(("stage", "global_batch"), [("mar", 64), ("vae", 10)])
def test_the_papers_batches_are_the_same_on_one_gpu_and_on_eight(stage, global_batch, num_gpus):
    arguments_class = {"mar": MARArguments, "vae": VAEArguments}[stage]
    arguments = parse_arguments(arguments_class, ["--config", str(CONFIGS / f"ukb_paper_{stage}.yaml")])
    plan = BatchPlan.of(arguments, num_gpus)
    parts = [plan.part(*place) for place in np.ndindex(plan.accumulation, num_gpus)]
    assert sorted(sample for part in parts for sample in part) == list(range(global_batch))
    assert 0 < min(map(len, parts)) <= max(map(len, parts)) <= arguments.batch_size
    weights = [plan.weight(*place) for place in np.ndindex(plan.accumulation, num_gpus)]
    assert np.mean(weights) == pytest.approx(1.0)


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.yaml")), ids=lambda path: path.stem)
def test_launch_files_are_accelerates_and_name_layers_that_exist(path):
    from accelerate.commands.config.config_args import load_config_from_file

    settings = load_config_from_file(str(path))
    assert settings.mixed_precision == "bf16"
    if path.stem == "fsdp2_mar":
        assert settings.fsdp_config["fsdp_version"] == 2
        assert hasattr(modeling_cpgg_mar, settings.fsdp_config["fsdp_transformer_layer_cls_to_wrap"])


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.stem)
def test_launch_scripts_are_bash(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
