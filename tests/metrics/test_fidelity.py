import json
import subprocess
import sys

import numpy as np

from cpgg_hf.metrics import fidelity_report, to_plain


class MeanBrightness:
    """An extractor of one's own: mean and sd of four quarters of the frame."""

    identity, num_features = "quarters", 8

    def __call__(self, cines):
        quarters = [cines[..., r : r + 24, c : c + 24] for r in (0, 24) for c in (0, 24)]
        return np.stack([f(q, axis=(1, 2, 3)) for q in quarters for f in (np.mean, np.std)], axis=1)


def test_one_call_gives_every_figure_with_any_extractor(small_hearts):
    report = fidelity_report(small_hearts[:60], small_hearts[60:], MeanBrightness(), seed=4)
    assert 0.2 < report.frechet.ratio < 5
    assert report.precision_recall.precision > 0.6
    assert report.reference_precision_recall.recall > 0.6
    assert (report.statistics["share"] > 0.6).all()
    spoilt = fidelity_report(small_hearts[:60, :, ::-1] * 0.5, small_hearts[60:], MeanBrightness(), seed=4)
    assert spoilt.frechet.ratio > 50
    assert spoilt.frechet.floor == report.frechet.floor
    assert spoilt.precision_recall.precision < 0.1
    read = json.loads(json.dumps(to_plain(report)))
    assert read["frechet"]["network"] == "quarters"
    assert [row["statistic"] for row in read["statistics"]] == list(report.statistics.index)


def test_importing_the_package_stays_light():
    code = "import cpgg_hf.metrics, sys; print({'torch', 'scipy', 'pandas', 'torchmetrics'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
