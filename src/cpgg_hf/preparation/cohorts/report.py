"""The report on a cohort: `report.json` for programs, `report.html` to look at; both name subjects by pseudonyms.

The page loads a thumbnail when it scrolls into view, so it stays usable with ten thousand subjects.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from cpgg_hf.dataset import SPLITS
from cpgg_hf.preparation.cohorts.plan import CohortPlan
from cpgg_hf.preparation.cohorts.subject import empty_record

REPORT_FILE = "report.json"
PAGE_FILE = "report.html"
THUMBNAIL_FOLDER = "thumbnails"
REPEATED = "the input names this subject more than once; the first entry was used."

_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
td, th { padding: .2rem 1rem .2rem 0; text-align: left; vertical-align: top; }
td.number { text-align: right; }
th { font-weight: normal; }
section { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: .75rem; }
figure { margin: 0; content-visibility: auto; contain-intrinsic-size: auto 150px; }
figure img, .none { display: block; width: 100%; aspect-ratio: 2; object-fit: contain; background: #000; }
.none { background: #eee; color: #666; font-size: 11px; display: grid; place-items: center; }
figcaption { font-size: 11px; overflow-wrap: anywhere; }
.note { color: #a04000; }
"""


def make_report(plan: CohortPlan, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The content of `report.json`.

    Args:
        plan: of the cohort.
        records: of all subjects, as `prepare_subject` returns them.

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
        "plan": plan.chunks().digest[:16],
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
    pictured = {path.stem for path in thumbnails.glob("*.png")}
    (folder / PAGE_FILE).write_text(_page(report, pictured), encoding="utf-8")


def _page(report: dict[str, Any], pictured: set[str]) -> str:
    used = [record for record in report["subjects"] if "reason" not in record]
    excluded = [record for record in report["subjects"] if "reason" in record]
    noted = sum(bool(record["warnings"]) for record in used)
    summary = {
        "subjects": report["num_subjects"],
        "used": report["num_used"],
        **{f"&emsp;in {split}": number for split, number in report["splits"].items()},
        "&emsp;with warnings": noted,
        "&emsp;without a row in the table of phenotypes": report["num_without_row"],
        "excluded": report["num_excluded"],
    }
    settings = report["settings"]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>Prepared cohort</title>',
            f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>Prepared cohort</h1>",
            f"<p>Requested view: {escape(settings['view'])}. Data policy: {escape(settings['data_policy'])}. "
            "Subjects carry pseudonyms; each picture shows the first frame (end-diastole) and the frame that differs "
            "most from it (near end-systole).</p>",
            _table(summary),
            f"<h2>Views, from the planes</h2>\n{_table(_escaped(report['views']))}" if used else "",
            f"<h2>Reasons for exclusion</h2>\n{_table(_escaped(report['reasons']))}" if excluded else "",
            f"<h2>Excluded subjects</h2>\n{_gallery(excluded, pictured)}" if excluded else "",
            f"<h2>Used subjects</h2>\n{_gallery(used, pictured)}" if used else "",
            "</body>\n</html>\n",
        ]
    )


def _escaped(counts: dict[str, int]) -> dict[str, int]:
    return {escape(name): number for name, number in counts.items()}


def _table(rows: dict[str, int]) -> str:
    cells = (f'<tr><th>{name}</th><td class="number">{number}</td></tr>' for name, number in rows.items())
    return "<table>\n" + "\n".join(cells) + "\n</table>"


def _gallery(records: Sequence[dict[str, Any]], pictured: set[str]) -> str:
    return "<section>\n" + "\n".join(_figure(record, pictured) for record in records) + "\n</section>"


def _figure(record: dict[str, Any], pictured: set[str]) -> str:
    name = escape(record["subject"])
    facts = ", ".join(escape(fact) for fact in (record["split"], record["view"]) if fact)
    notes = [record["reason"]] if "reason" in record else record["warnings"]
    picture = (
        f'<img loading="lazy" src="{THUMBNAIL_FOLDER}/{name}.png" alt="">'
        if record["subject"] in pictured
        else '<div class="none">no image was read</div>'
    )
    return (
        f"<figure>{picture}<figcaption>{name}<br>{facts}"
        + "".join(f'<br><span class="note">{escape(note)}</span>' for note in notes)
        + "</figcaption></figure>"
    )
