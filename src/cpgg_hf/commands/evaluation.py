"""`cpgg measure` and `cpgg evaluate`: which phenotypes cines show, how true they look, how well they obey."""

from typing import TYPE_CHECKING, Any

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.cli.cines import read_cine, read_cine_set
from cpgg_hf.cli.models import load_segmenter
from cpgg_hf.errors import RequestError
from cpgg_hf.phenotypes import PHENOTYPES, phenotype_index

if TYPE_CHECKING:
    import pandas as pd

    from cpgg_hf.metrics import FidelityReport


def measure(path: str, segmenter: str | None, view: str = "4ch", mask: str | None = None) -> dict[str, Any]:
    """Measures one cine (a NIfTI file or a DICOM folder): every phenotype that it shows, and its volume curves.

    The formulas are those of a four-chamber view, so other planes are refused unless `view` is "any". A scan is
    segmented by the checkpoint's field segmenter, a generated cine by its segmenter, unless one is named; a mask with
    labels for every frame takes the segmentation's place.
    """
    import torch

    from cpgg_hf.measure import measure_cine
    from cpgg_hf.measure.formulas import measure_labels

    cine = read_cine(path, view, segmenter, mask)
    if cine.probabilities is not None:
        probabilities = torch.from_numpy(cine.probabilities)
        measurement = measure_labels(probabilities, cine.spacing_mm, cine.frame_time_ms)
    else:
        network = load_segmenter(segmenter, scans=cine.acquired)
        measurement = measure_cine(_cine(cine.cine, cine.spacing_mm, cine.frame_time_ms), network)
    phenotypes, doubts = plausible(measurement.phenotypes)
    curves = {
        chamber: curve
        for chamber, curve in measurement.volumes_ml.items()
        if np.isfinite(curve).all() and any(name.startswith(chamber) for name in phenotypes)
    }
    return {
        "cine": path,
        "spacing_mm": float(cine.spacing_mm),
        "frame_time_ms": float(cine.frame_time_ms),
        "end_diastole_frame": measurement.end_diastole,
        "end_systole_frame": measurement.end_systole,
        "phenotypes": phenotypes,
        "volume_curves_ml": {chamber: np.round(curve, 2).tolist() for chamber, curve in curves.items()},
        "warnings": [*cine.warnings, *doubts],
        "units": {name: PHENOTYPES[phenotype_index(name)].unit for name in phenotypes},
    }


def _cine(pixels: np.ndarray, spacing_mm: float, frame_time_ms: float) -> Cine:
    return Cine(pixels=pixels, spacing_mm=(spacing_mm, spacing_mm), frame_time_ms=frame_time_ms)


def plausible(row: np.ndarray) -> tuple[dict[str, float], list[str]]:
    """The measured values of a row (82,) that a heart can have, by name, and a sentence for each that none can.

    A chamber with one such value was not segmented well: all its values are left out.
    """
    values, doubts = {}, []
    for phenotype, value in zip(PHENOTYPES, row.tolist(), strict=True):
        if phenotype.minimum <= value <= phenotype.maximum:
            values[phenotype.short_name] = value
        elif np.isfinite(value):
            doubts.append(
                f"{phenotype.short_name} came out as {value:.3g} {phenotype.unit}, hearts have "
                f"{phenotype.minimum:g} to {phenotype.maximum:g}: it is left out, look at the cine."
            )
    doubted = {doubt[:2] for doubt in doubts} & {"LV", "RV", "LA", "RA"}
    return {name: value for name, value in values.items() if name[:2] not in doubted}, doubts


def evaluate_controllability(
    generated: str, segmenter: str | None, seed: int = 0, split: str | None = None
) -> "pd.DataFrame":
    """Measured against requested phenotypes of a folder of cines; see `cpgg_hf.metrics.controllability`.

    Only phenotypes that a four-chamber view shows have rows. `split` is of a data set, see `read_cine_set`.
    """
    from cpgg_hf.measure import measure_cines
    from cpgg_hf.metrics import controllability

    cines = read_cine_set(generated, split)
    if not np.isfinite(cines.phenotypes).any():
        raise RequestError(f"{generated} says no phenotypes that were asked for; put phenotypes.csv beside the cines.")
    network = load_segmenter(segmenter)
    measured = measure_cines(
        list(map(_cine, cines.cines, cines.spacing_mm, cines.frame_time_ms)), network, progress=True
    )
    table = controllability(cines.phenotypes, measured, seed)
    return table[table["measurable"]]


def evaluate_fidelity(
    generated: str, true: str, seed: int = 0, split: str | None = None, true_split: str | None = None
) -> "FidelityReport":
    """Generated against true cines, at least twice as many of these; see `cpgg_hf.metrics.fidelity_report`.

    `split` is of the generated and `true_split` of the true data set, see `read_cine_set`.
    """
    from cpgg_hf.metrics import RandomFeatureNetwork, fidelity_report

    cines, true_cines = read_cine_set(generated, split).cines, read_cine_set(true, true_split).cines
    return fidelity_report(cines, true_cines, RandomFeatureNetwork(), seed)
