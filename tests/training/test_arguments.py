"""Settings from YAML and flags."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from cpgg_hf.errors import TrainingError
from cpgg_hf.models import modeling_cpgg_mar
from cpgg_hf.models.configuration_cpgg_mar import CPGGMARConfig
from cpgg_hf.models.phenotype_vae import CPGGPhenotypeVAE
from cpgg_hf.training.arguments import parse_arguments, read_settings
from cpgg_hf.training.data_order import BatchPlan
from cpgg_hf.training.stages.cine_segmenter import CineSegmenterStage
from cpgg_hf.training.stages.mar import MARArguments, MARStage
from cpgg_hf.training.stages.phenotype_vae import PhenotypeVAEStage
from cpgg_hf.training.stages.vae import VAEArguments, VAEStage

CONFIGS = Path(__file__).parents[2] / "training_scripts" / "configs"
LAUNCH = CONFIGS.with_name("launch")
NEEDED = ["--output_dir", "out", "--data", "cines", "--max_train_steps", "3"]


def write(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return ["--config", str(path)]


def test_flags_override_the_file(tmp_path):
    config = write(tmp_path, "learning_rate: 3e-4\nuse_ema: false\nbatch_size: 5\nmodel:\n  latent_channels: 4\n")
    flags = ["--batch_size", "7", "--model.latent_channels", "8", "--model.patch_size=[1, 2, 2]"]
    arguments = parse_arguments(VAEArguments, [*config, *NEEDED, *flags])
    assert (arguments.learning_rate, arguments.use_ema, arguments.batch_size) == (3e-4, False, 7)
    assert arguments.model == {"latent_channels": 8, "patch_size": [1, 2, 2]}


def test_numbers_in_exponent_form_are_numbers(tmp_path):
    config = write(tmp_path, "model:\n  layer_norm_eps: 1e-6\n  name: e-6\n")
    assert parse_arguments(MARArguments, [*config, *NEEDED]).model == {"layer_norm_eps": 1e-6, "name": "e-6"}


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("lerning_rate: 1\n", [], "has no key 'lerning_rate'; the nearest is 'learning_rate'"),
        ("", ["--bach-size", "3"], "command line has no key 'bach_size'; the nearest is 'batch_size'"),
        ("", ["stray"], "'stray' on the command line"),
        ("- a\n- b\n", [], "must hold `key: value` lines"),
        ("a: [1\n", [], "cannot be read"),
        ("batch_size: 0\n", [], "batch_size must be at least 1, given 0"),
    ],
)
def test_mistakes_are_named(tmp_path, text, flags, message):
    with pytest.raises(TrainingError) as raised:
        parse_arguments(VAEArguments, [*write(tmp_path, text), *NEEDED, *flags])
    assert message in str(raised.value)


def test_a_length_is_demanded():
    with pytest.raises(TrainingError, match="set one of them"):
        parse_arguments(VAEArguments, NEEDED[:4])


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_is_one_of_its_stage(path):
    stages = {"phenotype_vae": PhenotypeVAEStage, "vae": VAEStage, "mar": MARStage, "segmenter": CineSegmenterStage}
    stages["lora"] = MARStage
    stage = next(stage for name, stage in stages.items() if f"_{name}" in path.stem)
    assert parse_arguments(stage.arguments_class, ["--config", str(path)]).output_dir.startswith("runs/")


@pytest.mark.parametrize("recipe", ["phantom_small", "phantom_base", "ukb_paper"])
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
    arguments = read_settings(CONFIGS / f"ukb_paper_{stage}.yaml")
    plan = BatchPlan.of(arguments["batch_size"], 1, arguments["global_batch_size"], num_gpus)
    parts = [plan.part(*place) for place in np.ndindex(plan.accumulation, num_gpus)]
    assert sorted(sample for part in parts for sample in part) == list(range(global_batch))
    assert 0 < min(map(len, parts)) <= max(map(len, parts)) <= arguments["batch_size"]
    weights = [plan.weight(*place) for place in np.ndindex(plan.accumulation, num_gpus)]
    assert np.mean(weights) == pytest.approx(1.0)


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.yaml")), ids=lambda path: path.stem)
def test_launch_files_are_accelerates_and_name_layers_that_exist(path):
    from accelerate.commands.config.config_args import load_config_from_file

    settings = load_config_from_file(str(path))
    if path.stem == "fsdp2_mar":
        assert settings.fsdp_config["fsdp_version"] == 2
        assert hasattr(modeling_cpgg_mar, settings.fsdp_config["fsdp_transformer_layer_cls_to_wrap"])


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.stem)
def test_launch_scripts_are_bash(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
