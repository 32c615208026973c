"""The registry: every module with a suffix is a format."""

import numpy as np

from cpgg_hf import exports
from cpgg_hf.cine import Cine


def test_every_format_writes_a_cine_under_its_suffix(tmp_path):
    assert set(exports.formats()) == {"dicom", "gif", "mp4", "nifti", "npz", "webp"}
    pixels = np.random.default_rng(0).random((8, 16, 16))
    exports.write_cine(tmp_path / "heart.1", Cine(pixels=pixels, frame_time_ms=100.0, seed=1), exports.formats())
    suffixes = (".nii.gz", ".gif", ".webp", ".mp4", ".npz", "_dicom")
    assert {path.name for path in tmp_path.iterdir()} == {f"heart.1{suffix}" for suffix in suffixes}


def test_a_new_module_is_a_new_format(tmp_path, monkeypatch):
    (tmp_path / "raw.py").write_text(
        "SUFFIX = '.raw'\ndef write_raw(path, cine):\n    path.write_bytes(cine.uint8.tobytes())\n"
    )
    monkeypatch.setattr(exports, "__path__", [*exports.__path__, str(tmp_path)])
    exports.formats.cache_clear()
    try:
        exports.write_cine(tmp_path / "cine", Cine(pixels=np.ones((2, 3, 4), np.uint8), frame_time_ms=20.0), ["raw"])
    finally:
        exports.formats.cache_clear()
    assert (tmp_path / "cine.raw").read_bytes() == b"\x01" * 24
