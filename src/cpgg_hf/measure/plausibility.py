"""Which measured phenotypes can be trusted: those that were measured, in the range that hearts have."""

import numpy as np

from cpgg_hf.phenotypes import PHENOTYPES


def plausible(measured: np.ndarray) -> tuple[dict[str, float], list[str]]:
    """The plausible values of measured phenotypes (82,) by name, and sentences about those that are left out.

    An implausible value means that its chamber was not segmented well: all values of that chamber are left out.
    """
    values, doubts, missing = {}, [], []
    for phenotype, value in zip(PHENOTYPES, measured.tolist(), strict=True):
        if phenotype.minimum <= value <= phenotype.maximum:
            values[phenotype.short_name] = value
        elif np.isfinite(value):
            doubts.append(
                f"{phenotype.short_name} was measured as {value:.3g} {phenotype.unit}, outside "
                f"{phenotype.minimum:g} to {phenotype.maximum:g}: it is left out; look at the cine."
            )
        elif phenotype.measurable:
            missing.append(phenotype.short_name)
    doubted = {doubt[:2] for doubt in doubts} & {"LV", "RV", "LA", "RA"}
    if missing:
        doubts.append(
            f"{', '.join(missing)}: not measured, since not every frame shows the structure; look at the cine."
        )
    return {name: value for name, value in values.items() if name[:2] not in doubted}, doubts
