"""Write SIZING.md: estimated memory and time of every stage and preset, from counted FLOPs and bytes.

python training_scripts/size_stages.py
"""

from dataclasses import dataclass
from pathlib import Path

from cpgg_hf.models.configuration_cpgg_mar import CPGGMARConfig
from cpgg_hf.training.arguments import TrainingArguments
from cpgg_hf.training.configuration import parse_arguments
from cpgg_hf.training.data_order import BatchPlan
from cpgg_hf.training.stages.cine_segmenter import CineSegmenterStage
from cpgg_hf.training.stages.mar import MARStage
from cpgg_hf.training.stages.phenotype_vae import PhenotypeVAEStage
from cpgg_hf.training.stages.vae import VAEStage
from sizing import (
    BYTES_PER_PARAMETER,
    StageSize,
    size_of_mar,
    size_of_phenotype_vae,
    size_of_segmenter,
    size_of_vae,
)

HERE = Path(__file__).parent
PAGE = HERE / "SIZING.md"
STAGES = {"phenotype_vae": PhenotypeVAEStage, "vae": VAEStage, "mar": MARStage, "cine_segmenter": CineSegmenterStage}
# Training samples, and latents (channels; frames, rows, columns) of the preset's MAR.
PRESETS = {
    "phantom_small": (8000, (8, (5, 12, 12))),
    "phantom_base": (32000, (16, (25, 12, 12))),
    "ukb_paper": (25955, (16, (25, 12, 12))),
}
ASSUMED_UTILISATION = 0.35


@dataclass(frozen=True)
class Device:
    """One or more GPUs: dense bf16 TFLOP/s, memory bandwidth in TB/s and memory in GB from the data sheet."""

    name: str
    tflops: float
    bandwidth: float
    memory: float
    count: int = 1


DEVICES = (
    Device("1 x A800", 312, 2.04, 80),
    Device("1 x H100", 989, 3.35, 80),
    Device("1 x H200", 989, 4.8, 141),
    Device("8 x A800", 312, 2.04, 80, count=8),
)

HEAD = f"""# Memory and time of each stage

All figures are **counted, not measured** (no GPU was available). `python training_scripts/size_stages.py` writes this
page; a test checks that it is up to date.

- FLOPs: matrix products, attentions and convolutions of a training step (forward and backward).
- Memory: {BYTES_PER_PARAMETER} bytes per parameter (weight, gradient, two moments, moving average in float32) and the
  activations that autograd saves under bf16 autocast, for the samples that a device processes at once. Workspaces and
  fragmentation need more, so leave a fifth free. Bold: more than the device has; lower `batch_size` (more
  micro-batches, same `global_batch_size`) or set `gradient_checkpointing`.
- "at best" is the larger of FLOPs / peak and bytes / bandwidth, for all steps of the preset; no run reaches it. The
  other figure assumes {ASSUMED_UTILISATION:.0%} of it, which is a guess. Data loading, validation and the encoding of
  latents are not included.
- Stages without `global_batch_size` are for one device. Launching their small kernels takes longer than the counted
  work: expect minutes instead of seconds.
- The networks of the adversarial and perceptual terms of the paper's 3D-VAE are not counted.
"""


def main() -> None:
    """Count all presets and write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")


def page() -> str:
    """The text of SIZING.md."""
    parts = [HEAD]
    for preset, (num_samples, latents) in PRESETS.items():
        rows = []
        for stage in STAGES:
            path = HERE / "configs" / f"{preset}_{stage}.yaml"
            if path.exists():
                arguments = parse_arguments(STAGES[stage].arguments_class, ["--config", str(path)])
                rows.append(row(stage, arguments, size(stage, arguments, latents), num_samples))
        names = " | ".join(device.name for device in DEVICES)
        parts.append(
            f"\n## {preset}\n\n"
            f"| stage | parameters | samples per step | steps | TFLOP per step | {names} |\n"
            f"|---|---|---|---|---|{'---|' * len(DEVICES)}\n" + "\n".join(rows) + "\n"
        )
    return "".join(parts)


def size(stage: str, arguments: TrainingArguments, latents: tuple[int, tuple[int, ...]]) -> StageSize:
    """Count the network of a preset."""
    if stage == "mar":
        return size_of_mar(CPGGMARConfig(**arguments.model, latent_channels=latents[0], latent_size=latents[1]))
    return {"vae": size_of_vae, "phenotype_vae": size_of_phenotype_vae, "cine_segmenter": size_of_segmenter}[stage](
        **arguments.model
    )


def row(stage: str, arguments: TrainingArguments, counted: StageSize, num_samples: int) -> str:
    """A row of the table: memory per device, time at best and at the assumed utilisation."""
    cells = []
    for device in DEVICES:
        if device.count > 1 and arguments.global_batch_size is None:
            cells.append("one device")
            continue
        plan = BatchPlan.of(arguments, device.count)
        largest = len(plan.part(0, 0))
        memory = counted.memory_bytes(largest) / 1e9
        of_one = largest * plan.accumulation
        seconds = max(
            of_one * counted.flops_per_sample / (device.tflops * 1e12),
            counted.traffic_bytes(of_one) / (device.bandwidth * 1e12),
        )
        hours = seconds * steps(arguments, plan, num_samples) / 3600
        held = f"{memory:.3g} GB"
        held = f"**{held}**" if memory > device.memory else held
        cells.append(f"{held}; {spoken(hours)} at best, {spoken(hours / ASSUMED_UTILISATION)}")
    plan = BatchPlan.of(arguments, num_processes=1)
    first = [
        stage,
        f"{counted.num_parameters / 1e6:.3g} M",
        str(plan.global_batch_size),
        f"{steps(arguments, plan, num_samples):,}",
        f"{plan.global_batch_size * counted.flops_per_sample / 1e12:.3g}",
    ]
    return f"| {' | '.join([*first, *cells])} |"


def spoken(hours: float) -> str:
    """A time with two digits in a suitable unit."""
    factor, unit = next(pair for pair in ((3600, "s"), (60, "min"), (1, "h")) if hours * pair[0] < 100 or pair[0] == 1)
    return f"{float(f'{hours * factor:.2g}'):g} {unit}"


def steps(arguments: TrainingArguments, plan: BatchPlan, num_samples: int) -> int:
    """Optimizer steps of a preset."""
    return arguments.max_train_steps or round(
        (arguments.num_train_epochs or 0) * (num_samples // plan.global_batch_size)
    )


if __name__ == "__main__":
    main()
