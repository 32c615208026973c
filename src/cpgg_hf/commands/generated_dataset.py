"""`cpgg generate --format parquet` and `training_scripts/generate_dataset.py`: a data set of generated cines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpgg_hf.cli.models import checkpoint_path, load_pipeline, load_segmenter
from cpgg_hf.cli.requests import read_request
from cpgg_hf.errors import RequestError


def generate_parquet(
    model: str | None,
    request: str | None,
    assignments: list[tuple[str, float]],
    num_samples: int,
    out: str,
    *,
    where: Sequence[str] = (),
    verify: bool = False,
    max_error: Sequence[tuple[str, float]] = (),
    max_attempts: int = 5,
    segmenter: str | None = None,
    micro_batch_size: int | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Generates a data set, or this process's share of it; returns what its `dataset.json` holds.

    Args:
        model: folder or hub repository; None is the shipped one.
        request: CSV or JSON file, see `read_request`.
        assignments: `--set`.
        num_samples: cines for each row of the request.
        out: the data set's folder; one that was begun with the same settings is continued.
        where: conditions such as `LVEF < 40`.
        verify: measures each cine.
        max_error: largest errors, such as ("LVEF", 5.0); they imply `verify`.
        max_attempts: cines drawn for the same phenotypes until the errors are small enough.
        segmenter: folder of the measure's network; None is the one in the checkpoint.
        micro_batch_size: replaces the pipeline's; other values round differently.
        options: of `cpgg_hf.generation.generate_dataset`.

    Raises:
        RequestError: a phenotype that `max_error` gives twice; else as `generate_dataset`.
    """
    from cpgg_hf.generation import GenerationRequest, Verification, exit_on_sigterm, generate_dataset, parse_condition

    names = [name for name, _ in max_error]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise RequestError(f"--max-error gives {min(repeated)} more than once; give it once.")
    conditions = [parse_condition(text) for text in where]
    hearts = GenerationRequest(read_request(request, assignments), num_samples, conditions)
    with exit_on_sigterm():
        verification = None
        if verify or max_error:
            verification = Verification(load_segmenter(segmenter, model), dict(max_error), max_attempts)
        pipe = load_pipeline(model)
        pipe.set_progress_bar_config(disable=True)
        if micro_batch_size is not None:
            pipe.register_to_config(micro_batch_size=micro_batch_size)
        source = checkpoint_path(model)
        name = Path(source).resolve().name if Path(source).is_dir() else source
        return generate_dataset(pipe, out, hearts, model=name, verification=verification, **options)
