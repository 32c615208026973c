"""The report on a cohort: `report.json` for programs, `report.html` to look at; both name subjects by pseudonyms.

The page, from `report.html` beside this file, loads a thumbnail when it scrolls into view, so it stays usable with ten
thousand subjects.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Template

from cpgg_hf.dataset import SPLITS
from cpgg_hf.preparation.cohorts.plan import CohortPlan
from cpgg_hf.preparation.cohorts.subject import empty_record

REPORT_FILE = "report.json"
THUMBNAIL_FOLDER = "thumbnails"
REPEATED = "the input names this subject more than once; the first entry was used."


def make_report(plan: CohortPlan, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The content of `report.json`.

    Args:
        plan: the cohort's plan.
        records: records of all subjects, as `prepare_subject` returns them.

    Returns:
        counts (`num_subjects`, `num_used`, `num_excluded`, used subjects by `splits` and `views`, `num_without_row`:
        used subjects without a row in the table of phenotypes, excluded ones by `reasons`, without a subject's own
        numbers in brackets), `seconds` by step over all subjects, `settings`, and one record per subject in
        `subjects`: pseudonym, split, view, warnings, seconds, and the `reason` if it was excluded.
    """
    repeated = [empty_record(name, None) | {"reason": REPEATED} for name in plan.repeated]
    everyone = [*records, *repeated]
    used = [record for record in records if "reason" not in record]
    without_row = {task.pseudonym for tasks in plan.tasks.values() for task in tasks if task.subject.without_row}
    seconds: Counter[str] = Counter()
    for record in records:
        seconds.update(record["seconds"])
    return {
        "plan": plan.digest,
        "num_subjects": len(everyone),
        "num_used": len(used),
        "num_excluded": len(everyone) - len(used),
        "num_without_row": sum(record["subject"] in without_row for record in used),
        "splits": {split: sum(record["split"] == split for record in used) for split in SPLITS},
        "views": _counts(record["view"] for record in used),
        "reasons": _counts(_kind(record["reason"]) for record in everyone if "reason" in record),
        "seconds": {step: round(value, 3) for step, value in seconds.items()},
        "settings": plan.settings,
        "subjects": everyone,
    }


def _kind(reason: str) -> str:
    """A reason without the brackets that hold a subject's own numbers, so that alike ones are counted together."""
    return re.sub(r" \((?=[^()]*\d)(?=[^()]* )[^()]*\)", "", reason)


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def write_report(report: dict[str, Any], folder: Path, thumbnails: Path) -> None:
    """Write `report.json` and `report.html` into a folder; the page expects `thumbnails` beside it."""
    (folder / REPORT_FILE).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    template = resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    page = Template(template, autoescape=True, trim_blocks=True, lstrip_blocks=True).render(
        report=report,
        used=[record for record in report["subjects"] if "reason" not in record],
        excluded=[record for record in report["subjects"] if "reason" in record],
        thumbnails=THUMBNAIL_FOLDER,
        pictured={path.stem for path in thumbnails.glob("*.png")},
    )
    (folder / "report.html").write_text(page + "\n", encoding="utf-8")
