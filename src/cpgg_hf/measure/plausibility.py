"""Which measured phenotypes can be trusted: those in the range that hearts have."""

import numpy as np

from cpgg_hf.phenotypes import PHENOTYPES


def plausible(measured: np.ndarray) -> tuple[dict[str, float], list[str]]:
    """The plausible values of measured phenotypes (82,) by name, and one sentence per implausible value.

    An implausible value means that its chamber was not segmented well: all values of that chamber are left out.
    """
    values, doubts = {}, []
    for phenotype, value in zip(PHENOTYPES, measured.tolist(), strict=True):
        if phenotype.minimum <= value <= phenotype.maximum:
            values[phenotype.short_name] = value
        elif np.isfinite(value):
            doubts.append(
                f"{phenotype.short_name} was measured as {value:.3g} {phenotype.unit}, outside "
                f"{phenotype.minimum:g} to {phenotype.maximum:g}: it is left out; look at the cine."
            )
    doubted = {doubt[:2] for doubt in doubts} & {"LV", "RV", "LA", "RA"}
    return {name: value for name, value in values.items() if name[:2] not in doubted}, doubts
