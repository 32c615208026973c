"""Real series, where they are present: `CPGG_REAL_CMR` names their folder; they tune nothing."""

import json
import os
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from cpgg_hf.cine import Cine
from cpgg_hf.errors import InputError
from cpgg_hf.phantom import LABELS
from cpgg_hf.preparation.grid.heart_segmentation import load_scan_segmenter
from cpgg_hf.preparation.grid.prepare import prepare_scan, to_display_orientation
from cpgg_hf.preparation.grid.view import classify_view
from cpgg_hf.preparation.one_scan import prepare_one_scan
from cpgg_hf.scans.dicom import read_dicom_folder

ROOT = Path(os.environ.get("CPGG_REAL_CMR", "absent"))
SHIPPED = Path(__file__).parents[2] / "checkpoints" / "cpgg-phantom-small"
pytestmark = pytest.mark.skipif(
    not (ROOT / "human_4ch").is_dir(), reason="no real cine MRI here: CPGG_REAL_CMR names no folder that holds it"
)


def contour_points() -> np.ndarray:
    """(N, 3) patient mm of every contour point in the four-chamber plane, all phases."""
    rows = [
        line.split("\t")
        for path in sorted((ROOT / "human_4ch/contours").glob("GPFile_*.txt"))
        for line in path.read_text().splitlines()[1:]
    ]
    return np.array([[float(value) for value in row[:3]] for row in rows if row[4] == "7"])


@pytest.fixture(scope="module")
def segmenter():
    return load_scan_segmenter(str(SHIPPED / "scan_segmenter"))


def in_crop(prepared, points) -> np.ndarray:
    """(N, 2) columns and rows of patient points in the crop."""
    index = np.c_[points * [-1, -1, 1], np.ones(len(points))] @ np.linalg.inv(prepared.cine.affine).T
    assert np.abs(index[:, 2]).max() < 0.1  # in the plane
    return index[:, :2]


@pytest.mark.parametrize("stand", [lambda series: series, to_display_orientation], ids=["as acquired", "upright"])
@pytest.mark.parametrize("by_network", [True, False])
def test_the_crop_holds_the_whole_human_heart(stand, by_network, segmenter):
    series = stand(read_dicom_folder(ROOT / "human_4ch/dicom_4ch"))
    prepared = prepare_scan(series, segmenter=segmenter if by_network else None, view="4ch")
    points = contour_points()
    assert len(points) > 1000
    spare = 8 if by_network else 0
    places = in_crop(prepared, points)
    assert places.min() >= spare
    assert places.max() <= 95 - spare


def outline(rows, kind, start) -> np.ndarray:
    """The points of a contour in one phase, each beside the next, from the end that is nearest to `start`."""
    left = [point for name, point in rows if name == kind]
    path = [start]
    while left:
        path.append(left.pop(int(np.argmin([np.linalg.norm(point - path[-1]) for point in left]))))
    return np.array(path[1:])


def filled(polygon) -> np.ndarray:
    """(96, 96) bool of the pixels whose centre lies in a polygon of (column, row)."""
    from matplotlib.path import Path as Outline

    columns, rows = np.meshgrid(np.arange(96), np.arange(96))
    return Outline(polygon).contains_points(np.c_[columns.ravel(), rows.ravel()]).reshape(96, 96)


def test_the_human_heart_is_segmented_as_it_was_contoured(segmenter):
    """All 25 phases: LV cavity and myocardium against the contours, closed at the mitral hinges."""
    series = read_dicom_folder(ROOT / "human_4ch/dicom_4ch")
    prepared = prepare_scan(series, segmenter=segmenter, view="4ch", with_probabilities=True)
    labels = prepared.probabilities.argmax(axis=1)
    overlaps = []
    for phase, path in enumerate(sorted((ROOT / "human_4ch/contours").glob("GPFile_*.txt"))):
        lines = [line.split("\t") for line in path.read_text().splitlines()[1:]]
        own = [(row[3], np.array(row[:3], dtype=float)) for row in lines if row[4] == "7"]
        rows = list(zip([name for name, _ in own], in_crop(prepared, np.array([p for _, p in own])), strict=True))
        hinge = next(point for name, point in rows if name == "MITRAL_VALVE")
        cavity = filled(outline(rows, "LAX_LV_ENDOCARDIAL", hinge))
        wall = filled(outline(rows, "LAX_LV_EPICARDIAL", hinge)) & ~cavity
        frame = labels[2 * phase]
        pairs = ((frame == LABELS["LV cavity"], cavity), (frame == LABELS["LV myocardium"], wall))
        overlaps.append([2 * (given & true).sum() / (given.sum() + true.sum()) for given, true in pairs])
    cavity, wall = np.mean(overlaps, axis=0)
    assert cavity >= 0.80
    assert wall >= 0.60


@pytest.mark.parametrize(
    ("folder", "view", "num_frames"),
    [
        ("human_4ch/dicom_4ch", "4ch", 25),
        ("pig_4ch/dicom_4ch", "4ch", 20),
        ("human_4ch/dicom_sax_mid", "sax", 25),
        ("sunnybrook_sax/dicom_SCD0000101", "sax", 20),
    ],
)
def test_views_are_judged_from_the_plane(folder, view, num_frames):
    series = read_dicom_folder(ROOT / folder)
    assert len(series.pixels) == num_frames
    assert classify_view(series.normal).view == view


@pytest.mark.parametrize(
    ("folder", "shown"),
    [
        ("human_4ch/dicom_4ch", True),
        ("pig_4ch/dicom_4ch", True),
        ("human_4ch/dicom_sax_mid", False),
        ("sunnybrook_sax/dicom_SCD0000101", False),
    ],
)
def test_views_are_judged_from_the_image_without_a_plane(folder, shown, segmenter):
    series = replace(read_dicom_folder(ROOT / folder), orientation=None, position=None)
    if shown:
        assert prepare_scan(series, segmenter=segmenter, view="4ch").cine.pixels.shape == (50, 96, 96)
        return
    with pytest.raises(InputError, match="--view any"):
        prepare_scan(series, segmenter=segmenter, view="4ch")


def test_the_slices_of_a_short_axis_stack_without_a_plane_are_refused(segmenter):
    stack = nibabel.load(ROOT / "sunnybrook_sax/SCD0000401_4d.nii.gz")
    for index in range(stack.shape[2]):
        pixels = np.asarray(stack.dataobj[:, :, index], dtype=np.float32).transpose(2, 1, 0)
        spacing = stack.header.get_zooms()[:2]
        scan = Cine(pixels=pixels, frame_time_ms=40.0, spacing_mm=spacing[::-1], scanner_units=True, acquired=True)
        with pytest.raises(InputError):
            prepare_scan(scan, segmenter=segmenter, view="4ch")


def test_chambers_keep_their_names_over_the_pigs_beat(segmenter):
    """In late systole the network calls the left side right; the septum lies between the same sides all the time."""
    series = read_dicom_folder(ROOT / "pig_4ch/dicom_4ch")
    prepared = prepare_scan(series, segmenter=segmenter, view="4ch", with_probabilities=True)
    labels = prepared.probabilities.argmax(axis=1)
    for left, right in (("LV cavity", "RV cavity"), ("LA", "RA")):
        columns = [[np.nonzero(frame == LABELS[name])[1].mean() for name in (left, right)] for frame in labels[::5]]
        assert len({one > other for one, other in columns}) == 1
    assert any("made consistent" in note for note in prepared.cine.warnings)


@pytest.mark.parametrize("subject", ["human_4ch", "pig_4ch"])
def test_nifti_and_dicom_of_a_subject_agree(subject):
    from cpgg_hf.scans.nifti import read_nifti

    dicom, nifti = read_dicom_folder(ROOT / subject / "dicom_4ch"), read_nifti(ROOT / subject / "4ch.nii.gz")
    assert np.array_equal(dicom.pixels, nifti.pixels)
    assert nifti.position == pytest.approx(dicom.position, abs=0.01)
    assert nifti.orientation == pytest.approx(dicom.orientation, abs=1e-3)
    assert nifti.rr_ms == pytest.approx(dicom.rr_ms, rel=0.01)


def test_a_human_scan_is_prepared_with_what_is_known(tmp_path):
    known = ROOT / "human_4ch/phenotypes.json"
    report = prepare_one_scan(ROOT / "human_4ch/dicom_4ch", tmp_path / "out", phenotypes=known)
    given = json.loads(known.read_text())["phenotypes"]
    assert report["phenotypes"] == pytest.approx(given)
    assert report["acquired"]["rr_ms"] == pytest.approx(876)
    assert nibabel.load(tmp_path / "out/cine.nii.gz").shape == (96, 96, 1, 50)


def test_short_axis_series_are_refused_by_what_they_look_like(tmp_path):
    with pytest.raises(InputError, match="looks like short-axis"):
        prepare_one_scan(ROOT / "human_4ch/dicom_sax_mid", tmp_path / "out")


def test_sunnybrook_as_dicom_and_as_a_nifti_stack_is_prepared(tmp_path):
    """DICOM with broken UIDs and no SeriesDescription, and the middle of a stack of six slices."""
    from cpgg_hf.preparation.cohorts.cohort import prepare_cohort
    from cpgg_hf.preparation.layouts import find_subjects

    (tmp_path / "SCD_IMAGES_01").mkdir()
    (tmp_path / "SCD_IMAGES_01/SCD0000101").symlink_to(ROOT / "sunnybrook_sax/dicom_SCD0000101")
    (tmp_path / "table.csv").write_text(
        f"subject,path\nstack-of-six,{ROOT}/sunnybrook_sax/SCD0000401_4d.nii.gz\nhuman,{ROOT}/human_4ch/dicom_4ch\n"
    )
    subjects = find_subjects("sunnybrook", tmp_path / "SCD_IMAGES_01", "any")
    subjects += find_subjects("table", tmp_path / "table.csv", "any")
    report = prepare_cohort(subjects, tmp_path / "out", tmp_path / "key", view="any", progress=False)
    assert report["num_used"] == 3
    assert report["views"] == {"sax": 2, "4ch": 1}
    for path in (tmp_path / "out").rglob("*.*"):
        assert not any(name in path.read_bytes() for name in (b"SCD0000", b"stack-of-six", b"human"))
