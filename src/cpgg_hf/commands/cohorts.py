"""`cpgg prepare cohort` and `cpgg prepare ukb`: a collection's subjects found, prepared, and counted."""

from typing import TYPE_CHECKING, Any

from cpgg_hf.errors import RequestError

if TYPE_CHECKING:
    from cpgg_hf.preparation.layouts.subject import Subject


def prepare_collection(
    source: str, layout: str, out: str, key_file: str, view: str, rr_ms: float | None, **settings: Any
) -> dict[str, Any]:
    """Prepares a collection of one of the known layouts; see `find_subjects` and `prepare_cohort`."""
    from cpgg_hf.preparation.layouts import find_subjects

    return _prepare(find_subjects(layout, source, view, rr_ms), out, key_file, view=view, **settings)


def prepare_ukb(
    bulk: str, phenotypes: str, instance: int, out: str, key_file: str, view: str, **settings: Any
) -> dict[str, Any]:
    """Prepares UK Biobank's long-axis cines as they are delivered; see `find_ukb_subjects` and `prepare_cohort`."""
    from cpgg_hf.preparation.layouts.ukb import find_ukb_subjects

    return _prepare(find_ukb_subjects(bulk, phenotypes, instance), out, key_file, view=view, **settings)


def _prepare(subjects: "list[Subject]", out: str, key_file: str, **settings: Any) -> dict[str, Any]:
    from cpgg_hf.preparation.cohorts.cohort import prepare_cohort

    report = prepare_cohort(subjects, out, key_file, **settings)
    if not report["num_used"]:
        raise RequestError(
            f"none of the {report['num_subjects']} subjects could be used; {out}/report.html says why, "
            f"most often: {next(iter(report['reasons']))}"
        )
    return report
