"""The phantom population, version 1: plausible 82-phenotype vectors, four fifths healthy and one fifth with disease.

Means and standard deviations of the healthy part are the phenotype table's; the covariation (body size, age, load,
conduction between left and right heart) and the disease tail are assumptions, made for the phantom and for tests,
never reference ranges. Everything trained on the phantom depends on this file: it is frozen. A change of any number
needs a new `POPULATION_VERSION`.
"""

import numpy as np

from cpgg_hf.phenotypes import NAMES, PHENOTYPES
from cpgg_hf.phenotypes.identities import CHAMBERS

POPULATION_VERSION = 1
DISEASE_SHARES = {"dilated": 0.06, "hypertrophic": 0.06, "failing": 0.05, "right_overload": 0.03}
_SEPTAL_SEGMENTS = (2, 3, 8, 9, 14)
_NUM_DRAWS = 96
_TABLE = {p.short_name: (p.mean, p.sd) for p in PHENOTYPES}


class _Draws:
    """Hands out named columns of one (N, K) normal draw, so that row i is the same whatever N is."""

    def __init__(self, normals: np.ndarray):
        self._normals = normals
        self._next = 0

    def take(self, count: int = 1) -> np.ndarray:
        columns = self._normals[:, self._next : self._next + count]
        self._next += count
        return columns[:, 0] if count == 1 else columns


def sample_phenotypes(num_samples: int, seed: int) -> np.ndarray:
    """Draws phenotype vectors of the frozen population.

    Args:
        num_samples: How many subjects.
        seed: Seed of the population; row i depends on the seed and i alone.

    Returns:
        (num_samples, 82) float64 in physical units and schema order; the nine identities hold exactly.
    """
    rng = np.random.default_rng([POPULATION_VERSION, seed])
    return _assemble(_Draws(rng.standard_normal((num_samples, _NUM_DRAWS))))


def disease_labels(num_samples: int, seed: int) -> np.ndarray:
    """The disease group of each row of `sample_phenotypes(num_samples, seed)`: (num_samples,) of str."""
    rng = np.random.default_rng([POPULATION_VERSION, seed])
    return _disease_groups(rng.standard_normal((num_samples, _NUM_DRAWS))[:, 0])


def _disease_groups(normal: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    edges = np.cumsum(list(DISEASE_SHARES.values()))
    groups = np.array([*DISEASE_SHARES, "healthy"])
    return groups[np.searchsorted(edges, ndtr(normal), side="right")]


def _normal(name: str, score: np.ndarray) -> np.ndarray:
    mean, sd = _TABLE[name]
    return mean + sd * score


def _lognormal(mean: float, sd: float, score: np.ndarray) -> np.ndarray:
    """A log-normal variable of this mean and sd, driven by a standard normal score."""
    log_variance = np.log1p((sd / mean) ** 2)
    return np.exp(np.log(mean) - log_variance / 2 + np.sqrt(log_variance) * score)


def _mix(*weighted: tuple[float, np.ndarray]) -> np.ndarray:
    """A standard normal score from weighted independent scores; the weights' squares need not sum to one."""
    total = sum(weight**2 for weight, _ in weighted) ** 0.5
    return sum(weight * score for weight, score in weighted) / total


def _assemble(draws: _Draws) -> np.ndarray:
    group = _disease_groups(draws.take())
    dilated, hypertrophic, failing, overload = (group == name for name in DISEASE_SHARES)
    size, age, load, severity = draws.take(4).T

    # Left ventricle: volume from body size, ejection fraction from load.
    lv_edv = _lognormal(*_TABLE["LVEDV"], _mix((0.85, size), (0.5, draws.take())))
    lv_ef = _normal("LVEF", _mix((0.5, load), (-0.3, size), (0.8, draws.take())))
    lv_edv = np.where(dilated, 235 + 35 * severity + 10 * size, lv_edv)
    lv_edv = np.where(failing, lv_edv * 1.2 + 5 * severity, lv_edv)
    lv_edv = np.where(hypertrophic, lv_edv * 0.9, lv_edv)
    lv_edv = np.clip(lv_edv, 60, 320)
    lv_ef = np.where(dilated, 33 - 6 * severity + 5 * load, lv_ef)
    lv_ef = np.where(failing, 38 + 7 * load - 4 * severity, lv_ef)
    lv_ef = np.where(hypertrophic, lv_ef + 7, lv_ef)
    lv_ef = np.clip(lv_ef, 14, 80)
    lv_sv = lv_edv * lv_ef / 100

    # Right ventricle: the two stroke volumes are nearly one flow.
    rv_sv = lv_sv * (1.005 + 0.04 * draws.take())
    rv_ef = 55.6 + 5.2 * draws.take() + 0.3 * (lv_ef - 59.6) * np.where(dilated | failing, 0.6, 1.0)
    rv_ef = np.where(overload, 39 - 5 * severity + 3 * load, rv_ef)
    rv_edv = np.clip(100 * rv_sv / np.clip(rv_ef, 18, 78), 60, 330)
    rv_esv = rv_edv - rv_sv

    heart_rate = 63 + 10 * draws.take() + 8 * (dilated | failing)
    heart_rate = np.clip(heart_rate, 42, 110)

    # Atria: the left one answers to filling pressure, the right one to the right ventricle.
    la_max = _lognormal(*_TABLE["LAV_max"], _mix((0.5, size), (0.4, age), (0.75, draws.take())))
    la_max = la_max * np.select([dilated, failing, hypertrophic], [1.5 + 0.15 * severity, 1.45, 1.3], 1.0)
    la_max = np.clip(la_max, 22, 190)
    la_ef = _normal("LAEF", _mix((-0.5, age), (0.3, load), (0.8, draws.take())))
    la_ef = np.clip(la_ef - np.select([dilated, failing, hypertrophic], [20, 18, 9], 0), 15, 85)
    ra_max = _lognormal(*_TABLE["RAV_max"], _mix((0.6, size), (0.2, age), (0.75, draws.take())))
    ra_max = np.clip(ra_max * np.select([overload, dilated, failing], [1.6, 1.2, 1.2], 1.0), 26, 210)
    ra_ef = _normal("RAEF", _mix((-0.3, age), (0.3, load), (0.9, draws.take())))
    ra_ef = np.clip(ra_ef - np.select([overload, dilated, failing], [12, 8, 6], 0), 12, 75)

    # Aorta: one pulse pressure, stiffer with age.
    pulse_pressure = _lognormal(46.0, 10.0, _mix((0.5, age), (0.85, draws.take())))
    stiffness = draws.take()
    aao_dist = np.clip(_lognormal(*_TABLE["AAo_distensibility"], _mix((-0.6, age), (0.6, stiffness))), 0.25, 9.0)
    dao_dist = np.clip(
        _lognormal(*_TABLE["DAo_distensibility"], _mix((-0.5, age), (0.5, stiffness), (0.5, draws.take()))), 0.4, 9.0
    )
    width = draws.take()
    aao_min = _lognormal(*_TABLE["AAo_min_area"], _mix((0.5, size), (0.4, age), (0.6, width)))
    dao_min = _lognormal(*_TABLE["DAo_min_area"], _mix((0.5, size), (0.4, age), (0.4, width), (0.5, draws.take())))
    dao_min = np.clip(dao_min, 180, 800)

    # Walls: one shared thickness and a pattern; hypertrophy sits in the septum.
    shared = _mix((0.6, size), (0.35, age), (0.7, draws.take()))
    noise = enumerate(draws.take(16).T, start=1)
    thickness = np.column_stack([_normal(f"WT_AHA_{k}", 0.78 * shared + 0.62 * own) for k, own in noise])
    septal = np.isin(np.arange(1, 17), _SEPTAL_SEGMENTS)
    growth = np.clip(5.0 + 2.2 * severity, 1.0, 12.0)[:, None]
    thickness += np.where(hypertrophic[:, None], np.where(septal, growth, 0.4 * growth), 0.0)
    thickness -= np.where(dilated[:, None], 0.6, 0.0)
    thickness = np.clip(thickness, 2.6, 20.0)
    wt_global = thickness.mean(axis=1) + 0.12 * draws.take()
    # Mass of a shell around the cavity (prolate ellipsoid of length-to-width 1.7), 1.05 g/mL.
    radius = (lv_edv * 1000 * 3 / (4 * np.pi * 1.7)) ** (1 / 3)
    shell = 4 / 3 * np.pi * ((radius + wt_global) ** 2 * (1.7 * radius + wt_global) - 1.7 * radius**3) / 1000
    lv_mass = np.clip(shell * 1.05 * 0.93 * np.exp(0.06 * draws.take()), 30, 345)

    # Strains follow ejection; hypertrophic walls shorten less than their ejection fraction says.
    contraction = (lv_ef - 59.6) / 5.2
    healthy_score = np.clip(contraction, -6, 4)
    ecc = -22.33 - 1.6 * healthy_score + 2.8 * draws.take()
    err = 45.0 + 4.0 * healthy_score + 6.5 * draws.take()
    ell = -18.5 - 1.5 * healthy_score + 2.2 * draws.take() + np.where(hypertrophic, 6.0, 0.0)
    strains = {
        name: np.clip(level[:, None] + noise_sd * draws.take(num_segments), *bounds)
        for name, num_segments, level, noise_sd, bounds in (
            ("Ecc", 16, ecc, 4.9, (-50.0, -1.0)),
            ("Err", 16, err, 12.0, (2.0, 140.0)),
            ("Ell", 6, ell, 3.9, (-42.0, -1.0)),
        )
    }

    columns = {
        "LVEDV": lv_edv,
        "LVESV": lv_edv - lv_sv,
        "LVCO": lv_sv * heart_rate / 1000,
        "LVM": lv_mass,
        "RVEDV": rv_edv,
        "RVESV": rv_esv,
        "LAV_max": la_max,
        "LAV_min": la_max * (1 - la_ef / 100),
        "RAV_max": ra_max,
        "RAV_min": ra_max * (1 - ra_ef / 100),
        "AAo_max_area": aao_min * (1 + aao_dist * pulse_pressure / 1000),
        "AAo_min_area": aao_min,
        "AAo_distensibility": aao_dist,
        "DAo_max_area": dao_min * (1 + dao_dist * pulse_pressure / 1000),
        "DAo_min_area": dao_min,
        "DAo_distensibility": dao_dist,
        "WT_Global": wt_global,
        "Ecc_Global": np.clip(strains["Ecc"].mean(axis=1) + 0.35 * draws.take(), -39, -1),
        "Err_Global": np.clip(strains["Err"].mean(axis=1) + 0.8 * draws.take(), 2, 118),
        "Ell_Global": np.clip(strains["Ell"].mean(axis=1) + 0.3 * draws.take(), -39, -1),
    }
    for chamber in CHAMBERS:
        largest, smallest, stroke, fraction = (NAMES[index] for index in chamber)
        columns[stroke] = columns[largest] - columns[smallest]
        columns[fraction] = 100 * columns[stroke] / columns[largest]
    segments = {"WT_AHA": thickness, "Ecc_AHA": strains["Ecc"], "Err_AHA": strains["Err"], "Ell": strains["Ell"]}
    for name, values in segments.items():
        columns |= {f"{name}_{k}": value for k, value in enumerate(values.T, start=1)}
    return np.stack([columns[name] for name in NAMES], axis=1)
