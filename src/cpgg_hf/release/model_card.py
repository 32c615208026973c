"""`README.md` of a checkpoint, filled from its configurations, its training record and measured results.

The text is in `model_cards/`. Missing information is shown as not recorded.
"""

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from cpgg_hf.data_policy import LICENSES, strictest
from cpgg_hf.errors import PublishingError
from cpgg_hf.files.policy_record import record_policy
from cpgg_hf.files.staging import staged_file
from cpgg_hf.hub.policy import stated_by_parts, stated_policies
from cpgg_hf.phenotypes import PHENOTYPES
from cpgg_hf.release.checkpoint_description import RECORD_FILE, describe_parts, read_object
from cpgg_hf.release.measured_results import (
    controllability_rows,
    evaluation_results,
    fidelity_rows,
    machines,
    read_results,
    reconstruction_losses,
    sweep_rows,
)

CARD_FILE = "README.md"

_TAGS = ["cardiac-mri", "cine", "masked-autoregressive", "diffusion", "cpgg"]


def write_model_card(
    folder: str | os.PathLike[str], results: str | os.PathLike[str] | None = None, repo_id: str | None = None
) -> Path:
    """Write the card of a checkpoint or of a single network.

    Args:
        folder: a folder written by `save_pretrained`, optionally with a `training_record.json`.
        results: folder of JSON files that `benchmarks/checkpoint_quality.py` wrote for it.
        repo_id: repository to load it from; default: the name of the folder.

    Returns:
        Path of the card.

    Raises:
        PublishingError: the folder holds no network.
    """
    folder = Path(folder)
    with staged_file(folder / CARD_FILE) as partial:
        partial.write_text(make_model_card(folder, results, repo_id), encoding="utf-8")
    described = strictest(policy for place, policy in stated_policies(folder) if place != CARD_FILE)
    record_policy(folder, described, [folder / CARD_FILE])
    return folder / CARD_FILE


def make_model_card(folder: Path, results: str | os.PathLike[str] | None = None, repo_id: str | None = None) -> str:
    """The text of `write_model_card`."""
    parts = describe_parts(folder)
    if not parts:
        raise PublishingError(f"{folder} holds no network; pass a folder that save_pretrained wrote.")
    policy = strictest(policy for path, policy in stated_by_parts(folder) if path.name != CARD_FILE)
    index = read_object(folder / "model_index.json")
    record = _record(folder)
    measured = read_results(None if results is None else Path(results))
    data = record.get("evaluation_data", "held-out cines")
    name = folder.resolve().name if repo_id is None else repo_id.rsplit("/", 1)[-1]
    carbon = _carbon(record)
    evaluated = evaluation_results(measured, data)
    metadata: dict[str, Any] = dict(LICENSES[policy])
    if evaluated:
        metadata |= {"model_name": name, "eval_results": evaluated}
    if carbon:
        metadata["co2_eq_emissions"] = carbon
    tags = [*_TAGS, *sorted({"phantom"} & {policy})]
    card_data = ModelCardData(library_name="cpgg_hf", tags=tags, data_policy=policy, **metadata)
    template = "pipeline.md" if index else "network.md"
    num_compared, lost = reconstruction_losses(measured)
    with resources.as_file(resources.files(__package__).joinpath("model_cards", template)) as path:
        card = ModelCard.from_template(
            card_data,
            template_path=str(path),
            name=name,
            source=repo_id or record.get("source") or name,
            policy=policy,
            parts=parts,
            index=index,
            scheduler=read_object(folder / "scheduler" / "scheduler_config.json"),
            record=record,
            measured=measured,
            evaluation_data=data,
            controllability=controllability_rows(measured),
            num_compared=num_compared,
            lost=lost,
            fidelity=fidelity_rows(measured),
            sweep=sweep_rows(measured),
            machines=machines(measured),
            not_measurable=sum(not phenotype.measurable for phenotype in PHENOTYPES),
            carbon=carbon,
            hours=_hours(record),
        )
    return card.content.rstrip() + "\n"


def _record(folder: Path) -> dict[str, Any]:
    """The folder's record, or the records of its components together."""
    record = read_object(folder / RECORD_FILE)
    if record:
        return record
    found = [read_object(path) for path in sorted(folder.glob(f"*/{RECORD_FILE}"))]
    runs = [run for one in found for run in one.get("runs", [])]
    return {**{key: one[key] for one in found for key in ("data", "hardware") if key in one}, "runs": runs}


def _hours(record: Mapping[str, Any]) -> float:
    return sum(run.get("minutes", 0.0) for run in record.get("runs", [])) / 60


def _carbon(record: Mapping[str, Any]) -> dict[str, Any]:
    """Grams of CO2 equivalent: hours x watts x grams per kilowatt hour, if the record states both."""
    assumed = record.get("carbon", {})
    if not {"watts", "grams_per_kwh"} <= assumed.keys():
        return {}
    grams = _hours(record) * assumed["watts"] / 1000 * assumed["grams_per_kwh"]
    return {
        "emissions": round(grams, 1),
        "source": f"estimated: {_hours(record):.1f} h x {assumed['watts']} W x {assumed['grams_per_kwh']} g/kWh",
        "training_type": "pre-training",
        "hardware_used": record.get("hardware", "not recorded"),
    }
