"""What the flags of a run do: streams, checkpointed activations, compilation, trackers, a discriminator, the log."""

import json
import re
import sys

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from cpgg_hf.errors import OutputError, TrainingError
from cpgg_hf.training.cine_batches import StreamedCines
from cpgg_hf.training.data_order import BatchPlan
from cpgg_hf.training.stage import DiscriminatorTraining
from cpgg_hf.training.stages.mar import MARStage
from cpgg_hf.training.stages.phenotype_vae import PhenotypeVAEStage
from cpgg_hf.training.stages.vae import VAEStage
from cpgg_hf.training.throughput import Throughput, count_flops, peak_tflops

from .conftest import TINY_MAR, TINY_PHENOTYPE_VAE, TINY_VAE, assert_same_run, log_of, run

NO_DROPOUT = {**TINY_MAR, "dropout": 0.0}


def losses_of(folder):
    return [value for line in log_of(folder) for key, value in line.items() if "loss" in key]


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ({"gradient_checkpointing": True}, "vae"),
        ({"gradient_checkpointing": True}, "mar"),
        ({"torch_compile_backend": "eager"}, "vae"),
        pytest.param({"torch_compile_backend": "inductor"}, "vae", marks=pytest.mark.slow),
        pytest.param({"torch_compile_backend": "inductor"}, "mar", marks=pytest.mark.slow),
    ],
)
def test_memory_and_speed_options_do_not_change_what_is_learned(option, name, settings, vae, tmp_path):
    stage, model = {"vae": (VAEStage, TINY_VAE), "mar": (MARStage, NO_DROPOUT)}[name]
    settings |= {"max_train_steps": 2, "logging_steps": 1} | ({"vae": str(vae)} if name == "mar" else {})
    run(stage, model, settings, output_dir=str(tmp_path / "plain"))
    run(stage, model, settings, **option)
    losses = losses_of(tmp_path / "plain")
    assert losses_of(tmp_path / "run") == pytest.approx(losses, rel=1e-4)
    assert abs(losses[1] / losses[0] - 1) > 1e-3


@pytest.mark.parametrize(
    ("stage", "model"),
    [
        (PhenotypeVAEStage, {"latent_dim": "x"}),
        (PhenotypeVAEStage, {"latent_dim": -3}),
        (VAEStage, {"block_out_channels": ["a"]}),
        (VAEStage, {"latent_channels": 0}),
        (MARStage, {"encoder_width": "abc"}),
        (MARStage, {"head_type": "foo"}),
        (MARStage, {"patch_size": float("nan")}),
    ],
)
def test_settings_that_a_network_refuses_are_one_sentence(stage, model, settings, vae):
    settings |= {"vae": str(vae)} if stage is MARStage else {}
    with pytest.raises(TrainingError, match=r"(?s)^[^\n]*\.$"):
        run(stage, model, settings)


def test_an_unknown_compiler_is_named_with_the_known_ones(settings):
    with pytest.raises(TrainingError, match=r"torch_compile_backend is 'foo'; expected one of .*inductor.*\.$"):
        run(VAEStage, TINY_VAE, settings, torch_compile_backend="foo")


def test_an_output_folder_that_cannot_be_created_is_named(settings, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write to .*file \(Not a directory\); choose another folder"):
        run(VAEStage, TINY_VAE, settings, output_dir=str(tmp_path / "file"))


def test_gradient_checkpointing_computes_activations_again(settings, vae, monkeypatch):
    calls = []
    original = torch.utils.checkpoint.checkpoint
    monkeypatch.setattr(torch.utils.checkpoint, "checkpoint", lambda *a, **k: calls.append(a) or original(*a, **k))
    run(VAEStage, TINY_VAE, settings, max_train_steps=1, gradient_checkpointing=True)
    assert calls


@pytest.mark.parametrize(("capability", "warned"), [("AVX2", True), ("AVX512", False)])
def test_bfloat16_where_it_is_emulated_is_warned_of(capability, warned, settings, monkeypatch, capsys):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    run(VAEStage, TINY_VAE, settings, max_train_steps=1, mixed_precision="bf16")
    assert ("use --mixed_precision no" in capsys.readouterr().out) == warned


def test_what_a_network_or_machine_cannot_do_is_refused(settings, phenotype_tables, monkeypatch):
    with pytest.raises(TrainingError, match="CPGGPhenotypeVAE does not support gradient_checkpointing"):
        run(PhenotypeVAEStage, TINY_PHENOTYPE_VAE, settings | phenotype_tables, gradient_checkpointing=True)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TrainingError, match="report_to is wandb, which is not installed; pip install wandb"):
        run(VAEStage, TINY_VAE, settings, report_to="wandb")
    with pytest.raises(TrainingError, match="global batch of 1 cannot be divided among 3 processes"):
        BatchPlan.of(VAEStage.arguments_class(**settings, global_batch_size=1), num_processes=3)
    with pytest.raises(TrainingError, match=r"gradient_accumulation_steps \(2\) follows from global_batch_size \(8\)"):
        VAEStage.arguments_class(**settings, global_batch_size=8, gradient_accumulation_steps=2)


def test_a_bar_shows_the_time_that_is_left_and_folders_without_pictures_go(
    settings, phenotype_tables, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(PhenotypeVAEStage, TINY_PHENOTYPE_VAE, settings | phenotype_tables, max_train_steps=3)
    assert re.search(r"3/3 \[00:\d\d<00:00", capsys.readouterr().err)
    assert not (tmp_path / "run" / "validation").exists()


def test_a_stream_resumes_exactly_and_is_shared_by_processes(settings, data, tmp_path):
    settings |= {"streaming": True, "max_train_steps": 14}  # over two epochs of 6 steps
    run(VAEStage, TINY_VAE, settings, output_dir=str(tmp_path / "undisturbed"))
    run(VAEStage, TINY_VAE, settings, max_seconds=0.0)
    run(VAEStage, TINY_VAE, settings, resume_from_checkpoint="latest", max_seconds=0.0)
    run(VAEStage, TINY_VAE, settings, resume_from_checkpoint="latest")
    assert_same_run(tmp_path / "undisturbed", tmp_path / "run")

    cines, plan = StreamedCines(str(data), "train"), BatchPlan(8, accumulation=2, num_processes=2)
    seen = []
    for process in range(2):
        batches = cines.training_batches(plan, seed=5, process_index=process, first_step=0)
        seen += [next(batches)["phenotypes"] for _ in range(6)]  # an epoch: 3 steps of 2 micro-batches
        later = cines.training_batches(plan, seed=5, process_index=process, first_step=2)
        for batch in seen[-2:]:
            torch.testing.assert_close(next(later)["phenotypes"], batch)
    assert len(torch.cat(seen).unique(dim=0)) == 24
    with pytest.raises(TrainingError, match="needs 4 equal parts, but the global batch has 10"):
        next(cines.training_batches(BatchPlan(10, 2, 2), 5, 0, 0))


def test_tensorboard_gets_figures_and_pictures(settings, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(VAEStage, TINY_VAE, settings, report_to="tensorboard")
    (folder,) = {path.parent for path in tmp_path.rglob("events.out.tfevents.*") if path.parent.name == "cpgg_vae"}
    events = EventAccumulator(str(folder)).Reload()
    tags = events.Tags()
    assert {"loss", "validation_psnr", "waiting_share", "samples_per_second"} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("validation_psnr")] == [3, 6]
    film = events.Images("reconstructions.gif")[-1]
    stored = (tmp_path / "run" / "validation" / "0000006" / "reconstructions.gif").read_bytes()
    assert film.encoded_image_string == stored
    assert stored.startswith(b"GIF89a")
    assert "reconstructions.png" in tags["images"]


class AdversarialVAE(VAEStage):
    """A discriminator of one layer that tells true from reconstructed cines."""

    def build_discriminator(self, network):
        self.discriminator_network = nn.Sequential(nn.Conv3d(1, 2, 3, stride=2), nn.Flatten(), nn.LazyLinear(1))
        self.discriminator_network(torch.zeros(1, 1, 4, 16, 16))
        return DiscriminatorTraining(
            self.discriminator_network, self.discriminator_loss, learning_rate=1e-2, first_step=2
        )

    def loss(self, network, batch, randomness):
        cines = batch["cine"].unsqueeze(1).float() / 127.5 - 1
        self.made = network(cines).sample
        assert (
            not any(parameter.requires_grad for parameter in self.discriminator_network.parameters())
            or not network.training
        )
        terms = {"l1": (self.made - cines).abs().mean(), "fooled": self.discriminator_network(self.made).mean()}
        return {"loss": terms["l1"] - 0.1 * terms["fooled"], **terms}

    def discriminator_loss(self, discriminator, batch, randomness):
        cines = batch["cine"].unsqueeze(1).float() / 127.5 - 1
        return {"loss": discriminator(self.made.detach()).relu().mean() + (1 - discriminator(cines)).relu().mean()}


def test_a_discriminator_learns_beside_the_network_and_resumes_exactly(settings, tmp_path):
    settings |= {"checkpointing_steps": 1, "checkpoints_total_limit": None, "logging_steps": 1}
    run(AdversarialVAE, TINY_VAE, settings, output_dir=str(tmp_path / "undisturbed"))
    run(AdversarialVAE, TINY_VAE, settings, max_seconds=0.0)
    run(AdversarialVAE, TINY_VAE, settings, resume_from_checkpoint="latest")
    assert_same_run(tmp_path / "undisturbed", tmp_path / "run")
    lines = [line for line in log_of(tmp_path / "run") if "loss" in line]
    assert ["discriminator_loss" in line for line in lines] == [False, False, True, True, True, True]

    def discriminator(step):
        from safetensors.torch import load_file

        return load_file(tmp_path / "run" / f"checkpoint-{step:07d}" / "model_1.safetensors")["network.0.weight"]

    assert torch.equal(discriminator(1), discriminator(2))
    assert torch.equal(discriminator(2), discriminator(3)), "its own warm-up begins here, at 0"
    assert not torch.equal(discriminator(3), discriminator(4))


def test_flops_are_those_of_the_formula_and_peaks_those_of_the_data_sheet():
    layer = nn.Linear(7, 5)
    assert count_flops(lambda: layer(torch.ones(3, 7))) == 2 * 3 * 7 * 5
    convolution = nn.Conv3d(2, 4, 3, padding=1)
    assert count_flops(lambda: convolution(torch.ones(1, 2, 4, 8, 8))) == 2 * (4 * 8 * 8) * 2 * 4 * 27
    assert peak_tflops("NVIDIA A800-SXM4-80GB") == 312.0
    assert peak_tflops("NVIDIA H200") == 989.0
    assert peak_tflops("") is None


def test_throughput_figures_fit_together():
    meter = Throughput(torch.device("cpu"), samples_per_step=8, num_processes=1, tokens_per_sample=5, forward_flops=10)
    with meter.time("waiting"):
        sum(range(1000))
    meter.step()
    figures = meter.figures()
    assert figures["tokens_per_second"] == pytest.approx(5 * figures["samples_per_second"])
    assert figures["model_tflops"] == pytest.approx(30 * figures["samples_per_second"] / 1e12)
    assert 0 < figures["waiting_share"] <= 1
    assert figures["peak_memory_gb"] > 0.01
    assert "mfu" not in figures, "nobody knows this CPU's peak"


def test_the_log_says_how_long_a_step_waited(settings, vae, tmp_path):
    run(MARStage, NO_DROPOUT, settings, vae=str(vae))
    line = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
    assert {"samples_per_second", "tokens_per_second", "model_tflops", "waiting_share", "peak_memory_gb"} <= set(line)
    Accelerator().free_memory()


def test_sizes_beyond_their_bounds_are_refused_before_a_network_is_built(settings):
    with pytest.raises(TrainingError, match="layers_per_block can be at most 64, given 100000000"):
        run(VAEStage, {**TINY_VAE, "layers_per_block": 10**8}, settings)
