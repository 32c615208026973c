"""Generates the cines of a request into a folder, in shards that any number of workers share."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpgg_hf.data_policy import strictest
from cpgg_hf.errors import RequestError
from cpgg_hf.files.staging import created_folder, disk_full_as_error
from cpgg_hf.generation.generator import CineGenerator
from cpgg_hf.generation.outputs import PARQUET, Outputs
from cpgg_hf.generation.plan import FORMAT_VERSION, PLAN_FILE, environment, fingerprints, guidance_record
from cpgg_hf.generation.progress import Progress
from cpgg_hf.generation.request import GenerationRequest
from cpgg_hf.generation.verification import Verification
from cpgg_hf.shards import Shard, ShardFolder, ShardPlan, keep_plan, locked, make_shards
from cpgg_hf.shards.engine import RECORDS_FOLDER

if TYPE_CHECKING:
    from cpgg_hf.pipeline_cpgg import CPGGPipeline


def generate_dataset(
    pipe: CPGGPipeline,
    out: str | os.PathLike[str],
    request: GenerationRequest,
    *,
    formats: Sequence[str] = (PARQUET,),
    model: str = "",
    seed: int = 0,
    split: str = "train",
    shard_size: int = 100,
    batch_size: int = 8,
    data_policy: str | None = None,
    verification: Verification | None = None,
    worker: int = 0,
    num_workers: int = 1,
    wait: Callable[[], None] | None = None,
    **settings: Any,
) -> bool:
    """Generate one worker's share of the cines of a request; shard i belongs to worker i mod `num_workers`.

    Cine i is the same in every format. A process may be killed at any moment: the same call makes what is missing. The
    bytes are the same for any batch size and number of workers, on the same kind of processor and accelerator with the
    same number type, torch threads and library versions, which `generation.json` records. The worker that finds the
    shards of all workers complete describes the outputs, see `Outputs.finish`.

    Args:
        pipe: on its device.
        out: new, empty, or started with the same plan.
        request: the phenotypes.
        formats: "parquet" (a data set), or formats of `cpgg_hf.exports` with one file per cine, or both.
        model: the model's name, for the plan.
        seed: cine i depends on the seed, the split and i only.
        split: "train", "validation" or "test".
        shard_size: cines per shard; a killed process loses at most one shard.
        batch_size: cines in memory at once; does not affect the output.
        data_policy: None = the strictest policy of model and segmenter; a stricter one may be given.
        verification: measures each cine; None = not measured.
        worker: index of this worker, from 0.
        num_workers: number of workers that share the folder.
        wait: returns when all workers have called it; then worker 0 describes the outputs.
        settings: settings of the pipeline call (`guidance_scale`, ...); None = the model's.

    Returns:
        Whether everything is complete and described.

    Raises:
        RequestError: another plan, conditions that no draw meets, or too little memory for one micro-batch.
        OutputError: a full disk, or the same worker is running already.
    """
    out = Path(out)
    sizes = {"shard_size": shard_size, "batch_size": batch_size, "num_workers": num_workers}
    for name, value, minimum in (("seed", seed, 0), *((name, size, 1) for name, size in sizes.items())):
        if value < minimum:
            raise RequestError(f"{name} must be at least {minimum}, given {value}.")
    if not 0 <= worker < num_workers:
        raise RequestError(f"worker must lie between 0 and {num_workers - 1}, given {worker}.")
    settings = vars(pipe.generation_settings(**settings))
    data_policy = _inherited_policy(pipe, verification, data_policy)
    outputs = Outputs(out, formats)
    plan = ShardPlan(
        {
            "format_version": FORMAT_VERSION,
            "formats": outputs.formats,
            "model": {"name": model, "sha256": fingerprints(pipe.components)},
            "seed": seed,
            "split": split,
            "shard_size": shard_size,
            "request": request.describe(),
            "settings": {
                **settings,
                "guidance_scale": guidance_record(settings["guidance_scale"]),
                "micro_batch_size": pipe.config.micro_batch_size,
            },
            "pixel_spacing_mm": pipe.config.pixel_spacing_mm,
            "verification": None if verification is None else verification.describe(),
            "data_policy": data_policy,
            "environment": environment(pipe),
        },
        outputs.shards(split, len(request), shard_size),
    )
    if (out / PLAN_FILE).exists():
        keep_plan(out / PLAN_FILE, plan.settings)
    else:
        check_new(out)
        request.check_acceptance(pipe, seed, split)
    generator = CineGenerator(pipe, request, seed, split, settings, data_policy, verification, batch_size)
    progress = Progress(sum(map(len, plan.shards[worker::num_workers])))

    def write(shard: Shard, _: Path) -> None:
        cines = generator.make(range(shard.first, shard.last), progress.cines_made)
        keep_plan(out / PLAN_FILE, plan.settings)  # with the first shard: a run that fails before leaves no plan
        outputs.write(shard, cines)

    with created_folder(out):
        try:
            complete = make_shards(
                out, plan, write, worker=worker, num_workers=num_workers, on_shard=progress.shard_complete
            )
        except BaseException:
            if not (out / PLAN_FILE).exists():
                shutil.rmtree(out / RECORDS_FOLDER, ignore_errors=True)
            raise
    if wait is not None:
        wait()
        complete = worker == 0 and not ShardFolder(out, plan).missing()
    if complete:
        details = {"seed": seed, "spacing_mm": pipe.config.pixel_spacing_mm, "data_policy": data_policy}
        with locked(out, "finish", wait=True), disk_full_as_error(out):
            outputs.finish(plan.shards, verification, **details)
    return complete


def _inherited_policy(pipe: CPGGPipeline, verification: Verification | None, given: str | None) -> str:
    segmenter = [] if verification is None else [verification.segmenter.config.data_policy]
    inherited = strictest([pipe.data_policy, *segmenter])
    if given is not None and strictest([given, inherited]) != given:
        raise RequestError(
            f"data_policy is {given!r}, but generated cines inherit {inherited!r} from the model or the segmenter; "
            "leave data_policy out, or use models with other training data."
        )
    return inherited if given is None else given


def check_new(out: str | os.PathLike[str]) -> None:
    """Raise RequestError unless a run can be started or resumed in a folder."""
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out} is a file; give a folder.")
    if out.is_dir() and not (out / PLAN_FILE).exists() and any(path.name[0] != "." for path in out.iterdir()):
        raise RequestError(f"{out} is not empty and has no {PLAN_FILE}; give a new folder.")


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """End the block by `SystemExit(143)` on SIGTERM, so that no unfinished files remain."""

    def end(*_: object) -> None:
        print("terminated; run the same command again to resume", file=sys.stderr, flush=True)
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
