"""Generates a data set: plan, shards, description; every process that calls this on one folder takes its share."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpgg_hf.data_policy import strictest
from cpgg_hf.dataset import DESCRIPTION_FILE, read_description, write_description, write_shard
from cpgg_hf.dataset.card import CARD_FILE, write_card
from cpgg_hf.errors import RequestError
from cpgg_hf.files.staging import disk_full_as_error
from cpgg_hf.generation.claims import Claim, Claims
from cpgg_hf.generation.maker import CineGenerator
from cpgg_hf.generation.plan import FORMAT_VERSION, PLAN_FILE, environment, fingerprints, fix_plan, plan_digest
from cpgg_hf.generation.progress import Progress
from cpgg_hf.generation.request import GenerationRequest
from cpgg_hf.generation.shards import GeneratedShards
from cpgg_hf.generation.verification import Verification

if TYPE_CHECKING:
    from cpgg_hf.pipeline_cpgg import CPGGPipeline

_SETTINGS = ("guidance_scale", "temperature", "num_decoding_steps", "num_inference_steps")
_CLAIMS_FOLDER = ".claims"
_SECONDS_BETWEEN_LOOKS = 1.0


def generate_dataset(
    pipe: CPGGPipeline,
    out: str | os.PathLike[str],
    request: GenerationRequest,
    *,
    model: str = "",
    seed: int = 0,
    split: str = "train",
    shard_size: int = 100,
    batch_size: int = 8,
    data_policy: str | None = None,
    verification: Verification | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Generates the cines of a request as a data set, together with all other processes that do so in this folder.

    It returns when the whole set is there. A process may be killed at any moment: the same call, or another process
    that runs still, makes what is missing, and the set is the same byte for byte. That holds for any batch size,
    number of processes and order of work; on the same kind of processor and accelerator, with the same number type,
    number of torch threads and library versions, all of which the plan in `generation.json` fixes.

    Args:
        pipe: the pipeline, on its device.
        out: the data set's folder: new, empty, or begun with the same plan.
        request: the phenotypes.
        model: the model's name, for the record.
        seed: cine i depends on the seed, the split and i alone.
        split: "train", "validation" or "test".
        shard_size: cines a shard; a process that is killed loses at most one shard's work.
        batch_size: cines in memory at once; it changes no byte.
        data_policy: None = what model and measure say of themselves; a stricter one may be given.
        verification: measures each cine; None = not measured.
        settings: of the pipeline's call (`guidance_scale`, ...); None = the model's.

    Returns:
        The content of the data set's `dataset.json`.

    Raises:
        RequestError: another plan, hopeless conditions, too little memory for one micro-batch.
        OutputError: a full disk.
    """
    out, config = Path(out), pipe.config
    sizes = {"shard_size": shard_size, "batch_size": batch_size, "micro_batch_size": config.micro_batch_size}
    for name, value, minimum in (("seed", seed, 0), *((name, size, 1) for name, size in sizes.items())):
        if value < minimum:
            raise RequestError(f"{name} must be at least {minimum}, given {value}.")
    settings = {name: config[name] if settings.get(name) is None else settings[name] for name in _SETTINGS}
    data_policy = _inherited_policy(pipe, verification, data_policy)
    plan = {
        "format_version": FORMAT_VERSION,
        "model": {"name": model, "sha256": fingerprints(pipe.components)},
        "seed": seed,
        "split": split,
        "shard_size": shard_size,
        "request": request.describe(),
        "settings": {**settings, "micro_batch_size": config.micro_batch_size},
        "pixel_spacing_mm": config.pixel_spacing_mm,
        "verification": None if verification is None else verification.describe(),
        "data_policy": data_policy,
        "environment": environment(pipe),
    }
    if not (out / PLAN_FILE).exists():
        _check_new(out)
        request.check_acceptance(pipe, seed, split)
    shards = GeneratedShards(out, split, len(request), shard_size, plan_digest(plan))
    maker = CineGenerator(pipe, request, seed, split, settings, data_policy, verification, batch_size)
    with disk_full_as_error(out):
        claims = Claims(out / _CLAIMS_FOLDER)
        fix_plan(out, plan, claims)
        _make_all(maker, shards, claims)
        claims.clear()
    return read_description(out)


def _inherited_policy(pipe: CPGGPipeline, verification: Verification | None, given: str | None) -> str:
    measure = [] if verification is None else [verification.segmenter.config.data_policy]
    inherited = strictest([pipe.data_policy, *measure])
    if given is not None and strictest([given, inherited]) != given:
        raise RequestError(
            f"data_policy is {given!r}, but the model or the measure is {inherited!r}, and what they make inherits "
            f"that; leave it out, or train on other data."
        )
    return inherited if given is None else given


def _make_all(maker: CineGenerator, shards: GeneratedShards, claims: Claims) -> None:
    """Makes what nobody else makes until the set is whole."""
    shards.check()

    def count_made() -> int:
        missing = shards.missing()
        return shards.count_finished(missing) + claims.count_made(missing)

    progress = Progress(shards.num_cines, count_made)
    while missing := shards.missing():
        claim = claims.take(missing)
        if claim is None:
            progress.report()
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            continue
        with claim:
            if claim.name not in shards.missing():  # finished between the look and the claim
                continue
            shards.tidy(claim.name)
            if claim.name == DESCRIPTION_FILE:
                _describe(maker, shards)
                continue

            def tell(made: int, claim: Claim = claim) -> None:
                claim.advance(made)
                progress.report()

            rows = maker.make(shards.indices[claim.name], tell)
            try:
                write_shard(rows, shards.out / claim.name, shards.plan(claim.name))
            except FileNotFoundError:  # another process thought this one dead, tidied up after it and makes the shard
                continue
        progress.report_finished(claim.name)
    if not (shards.out / CARD_FILE).is_file():
        write_card(shards.out)


def _describe(maker: CineGenerator, shards: GeneratedShards) -> None:
    verification = maker.verification
    checked = {} if verification is None else {"verification": verification.summary(shards.paths)}
    write_description(
        shards.out,
        source="cpgg",
        seed=maker.seed,
        spacing_mm=maker.pipe.config.pixel_spacing_mm,
        data_policy=maker.data_policy,
        **checked,
    )


def _check_new(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out} is a file; give a folder.")
    if out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise RequestError(f"{out} is not empty and has no {PLAN_FILE}; give a new folder.")


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Lets SIGTERM end the block by `SystemExit(143)`, so that claims are given up and nothing half-written stays."""

    def end(*_: object) -> None:
        print("terminated; the same command goes on with what is missing", file=sys.stderr, flush=True)
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
