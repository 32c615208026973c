"""`cpgg prepare`: what it writes and prints; planes of another view and unusable subjects."""

import json
import sys

import nibabel
import numpy as np
import pyarrow.parquet
import pytest

from cpgg_hf import phantom
from cpgg_hf.cine import Cine
from cpgg_hf.exports.nifti import write_nifti
from cpgg_hf.hub.policy import policy_of
from cpgg_hf.preparation.cohorts.cohort import prepare_cohort
from cpgg_hf.segmentation.heart_shapes import short_axis

from .running import assert_one_sentence, run


def test_a_short_axis_plane_is_named_and_can_be_taken_anyway(model, subject, tmp_path, capsys):
    heart = nibabel.load(subject / "cine.nii.gz")
    cine = np.asarray(heart.dataobj)[:, :, 0].transpose(2, 1, 0)
    # A row to the left and back, a column down: the plane's normal is the textbook long axis.
    short_axis = np.array([0.707, 0.707, 0.0, -0.332, 0.332, -0.883])
    write_nifti(tmp_path / "sax.nii.gz", Cine(pixels=cine, frame_time_ms=18.0, orientation=short_axis))
    assert run("prepare", "nifti", tmp_path / "sax.nii.gz", "--out", tmp_path / "out") == 1
    assert_one_sentence(capsys, "looks like short-axis.*--view any")
    assert not (tmp_path / "out").exists()
    assert run("prepare", "nifti", tmp_path / "sax.nii.gz", "--view", "any", "--out", tmp_path / "out") == 0
    assert "view sax" in capsys.readouterr().out
    measure = ("measure", tmp_path / "sax.nii.gz", "--segmenter", f"{model}/scan_segmenter")
    assert run(*measure) == 1
    assert_one_sentence(capsys, "looks like short-axis.*--view any")
    assert run(*measure, "--view", "any") == 0


def test_without_a_plane_only_an_image_of_four_chambers_is_taken(subject, tmp_path, capsys):
    """A phantom and a beating ring, saved without qform and sform."""
    heart = nibabel.load(subject / "cine.nii.gz")
    ring = np.einsum("tkhw,k->thw", short_axis(np.random.default_rng(3))[:, :3], [200.0, 40.0, 190.0])
    for name, pixels in (("4ch", np.asarray(heart.dataobj)), ("sax", ring.transpose(2, 1, 0)[:, :, None])):
        image = nibabel.Nifti1Image(pixels.astype(np.float32), None)
        image.header.set_zooms((1.8, 1.8, 6.0, 900 / pixels.shape[-1]))
        image.header.set_xyzt_units("mm", "msec")
        nibabel.save(image, tmp_path / f"{name}.nii.gz")
    assert run("prepare", "nifti", tmp_path / "4ch.nii.gz", "--out", tmp_path / "4ch", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["view"]["estimated"], report["view"]["estimated_from"]) == ("4ch", "image")
    assert any("judged from the image alone" in note for note in report["warnings"])
    assert {"overlay.png", "overlay.gif", "cine.nii.gz", "report.json"} <= {
        p.name for p in (tmp_path / "4ch").iterdir()
    }
    assert run("prepare", "nifti", tmp_path / "sax.nii.gz", "--out", tmp_path / "sax") == 1
    assert_one_sentence(capsys, "(does not show|nor the image shows).*--view any|no heart|low segmentation")
    assert run("prepare", "nifti", tmp_path / "4ch.nii.gz", "--segmenter", "none", "--out", tmp_path / "sax") == 1
    assert_one_sentence(capsys, "neither the plane, which is not stated, nor the image.*--view any")


@pytest.fixture
def collection(tmp_path):
    """A table of one phantom, and of one subject whose file is not there."""
    heart = phantom.render(phantom.sample_phenotypes(1, 4)[0], 4)
    every_fifth = Cine(pixels=heart.cine.pixels[::5], frame_time_ms=5 * heart.cine.frame_time_ms)
    write_nifti(tmp_path / "anna.nii.gz", every_fifth)
    (tmp_path / "cohort.csv").write_text(
        "subject,path,LVEDV\nAnna-Example,anna.nii.gz,150\nBert-Example,absent.nii,\n"
    )
    return tmp_path


def test_prepare_cohort_excludes_unusable_subjects_and_resumes(collection, capsys):
    arguments = ["--layout", "table", "--out", collection / "out", "--key-file", collection / "key"]
    assert run("prepare", "cohort", collection / "cohort.csv", *arguments) == 0
    printed = capsys.readouterr()
    assert "1 of 2 subjects prepared" in printed.out
    assert "excluded 1: the input does not exist; give a DICOM folder, or a .nii or .nii.gz file." in printed.err
    assert "Example" not in printed.out
    assert run("prepare", "cohort", collection / "cohort.csv", *arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((collection / "out/report.json").read_text())


def test_a_collection_is_restricted_unless_it_is_said_to_be_public(collection, capsys):
    arguments = ["prepare", "cohort", collection / "cohort.csv", "--layout", "table", "--key-file", collection / "key"]
    found = {}
    for name, policy in (("restricted", []), ("public", ["--data-policy", "public"])):
        assert run(*arguments, "--segmenter", "none", *policy, "--out", collection / name) == 0
        assert f"({name} data); see report.html there" in capsys.readouterr().out
        assert policy_of(collection / name) == name
        (path,) = (collection / name).glob("*.parquet")
        found[name] = path.name, pyarrow.parquet.read_table(path)["subject"].to_pylist()
    assert found["public"] == found["restricted"]  # pseudonyms and splits
    for wrong in (["prepare", "ukb", "--bulk", "x", "--phenotypes", "x", "--data-policy", "public"], arguments):
        with pytest.raises(SystemExit):
            run(*wrong, "--data-policy", "phantom", "--key-file", "x", "--out", "x")
    with pytest.raises(ValueError, match="unknown data_policy 'phantom' of a cohort"):
        prepare_cohort([], collection / "out", collection / "key", data_policy="phantom")


def test_prepare_cohort_fails_where_nobody_can_be_used(collection, capsys):
    (collection / "anna.nii.gz").unlink()
    arguments = ["--layout", "table", "--out", collection / "out", "--key-file", collection / "key"]
    assert run("prepare", "cohort", collection / "cohort.csv", *arguments) == 1
    assert "none of the 2 subjects could be used" in capsys.readouterr().err
    assert (collection / "out/report.html").is_file()
    assert run("prepare", "cohort", collection, "--layout", "acdc", *arguments[2:]) == 1
    assert "use their middle slice with --view any" in capsys.readouterr().err


def test_prepare_ukb_prepares_what_the_reader_finds(collection, capsys, monkeypatch):
    from types import ModuleType

    from cpgg_hf.preparation.layouts import find_subjects

    asked = []

    def find_ukb_subjects(*arguments):
        asked.append(arguments)
        return find_subjects("table", collection / "cohort.csv")

    reader = ModuleType("cpgg_hf.preparation.layouts.ukb")
    reader.find_ukb_subjects = find_ukb_subjects
    monkeypatch.setitem(sys.modules, "cpgg_hf.preparation.layouts.ukb", reader)
    arguments = ["--bulk", "zips", "--phenotypes", "table.csv", "--instance", 3, "--key-file", collection / "key"]
    assert run("prepare", "ukb", *arguments, "--out", collection / "out") == 0
    assert asked == [("zips", "table.csv", 3)]
    assert "1 of 2 subjects prepared" in capsys.readouterr().out
