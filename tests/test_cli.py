"""The command line: what it writes, what it prints, its exit codes; bad input leaves one sentence and no file."""

import json
import re
import shutil
import sys

import nibabel
import numpy as np
import pyarrow.parquet
import pytest
import torch

from cpgg_hf import CPGGPipeline, phantom
from cpgg_hf.cli import main
from cpgg_hf.data.data_policy import policy_of
from cpgg_hf.data.nifti import affine_of_plane, write_nifti
from cpgg_hf.phenotypes import NAMES, phenotype_index, read_csv, write_csv
from cpgg_hf.preparation.cohort import prepare_cohort
from tiny_checkpoint import save_tiny_checkpoint

FEW_STEPS = ["--num-decoding-steps", "2", "--num-inference-steps", "2"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """A phantom as a NIfTI file, and two of its phenotypes as JSON."""
    folder = tmp_path_factory.mktemp("subject")
    heart = phantom.render(phantom.sample_phenotypes(1, 4)[0], 4)
    write_nifti(folder / "cine.nii.gz", heart.cine, heart.frame_time_ms, heart.spacing_mm)
    known = {name: float(heart.phenotypes[phenotype_index(name)]) for name in ("LVEDV", "LVCO")}
    (folder / "phenotypes.json").write_text(json.dumps({"phenotypes": known}))
    return folder


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_sample_phenotypes_writes_a_table_that_obeys(model, tmp_path):
    for name in ("first.csv", "again.csv"):
        arguments = ["--set", "LVEF=30", "--set", "24100=200", "--num-samples", 3, "--seed", 5]
        assert run("sample-phenotypes", "--model", model, *arguments, "--out", tmp_path / name) == 0
    table = read_csv(tmp_path / "first.csv")
    assert table.shape == (3, 82)
    assert (table[:, phenotype_index("LVEF")] == 30).all()
    assert (table[:, phenotype_index("LVEDV")] == 200).all()
    assert np.isfinite(table).all()
    assert (tmp_path / "first.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()


def test_generate_writes_the_pipelines_cines_whatever_the_batch_size(model, tmp_path):
    write_csv(phantom.sample_phenotypes(3, 8), tmp_path / "asked.csv")
    for batch_size in (1, 3):
        arguments = ["--phenotypes", tmp_path / "asked.csv", "--seed", 2, "--batch-size", batch_size, *FEW_STEPS]
        out = tmp_path / f"batches-of-{batch_size}"
        assert run("generate", "--model", model, *arguments, "--format", "nifti,gif", "--out", out) == 0
    pipe = CPGGPipeline.from_pretrained(model)
    expected = pipe(
        read_csv(tmp_path / "asked.csv"),
        num_decoding_steps=2,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(2),
    )
    record = json.loads((out / "generation.json").read_text())
    assert [cine["seed"] for cine in record["cines"]] == expected.seeds.tolist()
    assert np.array_equal(read_csv(out / "phenotypes.csv"), expected.phenotypes.to_numpy())
    for index in range(3):
        for batch_size in (1, 3):
            image = nibabel.load(tmp_path / f"batches-of-{batch_size}" / f"cine_{index:05d}.nii.gz")
            cine = np.asarray(image.dataobj)[:, :, 0].transpose(2, 1, 0)
            assert np.array_equal(cine, expected.cines[index])
        np.testing.assert_allclose(image.header.get_zooms()[:2], 1.8)
        assert image.header.get_zooms()[3] == pytest.approx(expected.frame_time_ms[index])
        assert image.header.get_xyzt_units() == ("mm", "msec")
        assert (out / f"cine_{index:05d}.gif").read_bytes()[:4] == b"GIF8"


def test_every_format_holds_the_same_cine(model, tmp_path):
    from cpgg_hf.data.dicom import read_dicom_folder

    out = tmp_path / "out"
    arguments = ["--model", model, "--set", "LVEF=35", *FEW_STEPS, "--format", "nifti,gif,webp,mp4,npz,dicom"]
    assert run("generate", *arguments, "--out", out) == 0
    names = {path.name for path in out.iterdir()}
    assert names == {
        *("generation.json", "phenotypes.csv", "cine_00000_dicom"),
        *(f"cine_00000.{ending}" for ending in ("nii.gz", "gif", "webp", "mp4", "npz")),
    }
    cine = np.asarray(nibabel.load(out / "cine_00000.nii.gz").dataobj)[:, :, 0].transpose(2, 1, 0)
    (record,) = json.loads((out / "generation.json").read_text())["cines"]
    with np.load(out / "cine_00000.npz") as archive:
        assert np.array_equal(archive["cine"], cine)
        assert np.array_equal(archive["phenotypes"], read_csv(out / "phenotypes.csv")[0])
        assert archive["seed"] == record["seed"]
    series = read_dicom_folder(out / "cine_00000_dicom")
    assert np.abs(series.frames / 4095 - cine).max() <= 0.5 / 4095 + 1e-6
    assert series.frame_time_ms == pytest.approx(record["frame_time_ms"])


def test_prepare_measure_and_evaluate_follow_each_other(model, subject, tmp_path, capsys):
    prepared, generated = tmp_path / "prepared", tmp_path / "generated"
    assert run("prepare", "nifti", subject / "cine.nii.gz", "--out", prepared, "--json") == 0
    assert json.loads(capsys.readouterr().out)["view"]["judged"] == "4ch"
    segmenter = ["--segmenter", f"{model}/segmenter"]
    assert run("measure", prepared / "cine.nii.gz", *segmenter, "--json") == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["spacing_mm"] == 1.8
    assert set(measured["phenotypes"]) <= set(NAMES)
    assert measured["units"].keys() == measured["phenotypes"].keys()

    assert run("generate", "--model", model, "--num-samples", 3, *FEW_STEPS, "--out", generated) == 0
    capsys.readouterr()
    assert run("evaluate", "controllability", generated, *segmenter, "--json") == 0
    rows = {row["phenotype"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"LVEDV", "septal_wall"} <= rows.keys()
    assert "AAo_max_area" not in rows
    assert rows["LVEDV"]["num_cines"] + rows["LVEDV"]["num_unmeasured"] == 3


def test_a_mask_is_measured_in_place_of_a_network(subject, tmp_path, capsys):
    """The phantom's own labels give its own volumes, by the formula that computed the labels from the volumes."""
    heart = phantom.render(phantom.sample_phenotypes(1, 4)[0], 4)
    labels = np.where(heart.labels == phantom.LABELS["descending aorta"], 0, heart.labels)
    write_nifti(tmp_path / "mask.nii.gz", labels, heart.frame_time_ms, heart.spacing_mm)
    assert run("measure", subject / "cine.nii.gz", "--mask", tmp_path / "mask.nii.gz", "--json") == 0
    measured = json.loads(capsys.readouterr().out)
    for name, tolerance in (("LVEDV", 0.04), ("LVEF", 0.04), ("RVEDV", 0.05), ("LAV_max", 0.06)):
        assert measured["phenotypes"][name] == pytest.approx(heart.phenotypes[phenotype_index(name)], rel=tolerance)
    assert abs(measured["end_systole_frame"] - heart.end_systole) <= 1
    curve = measured["volume_curves_ml"]["LV"]
    assert len(curve) == 50
    volumes = measured["phenotypes"]["LVEDV"], measured["phenotypes"]["LVESV"]
    assert (curve[0], min(curve)) == pytest.approx(volumes, abs=0.01)
    arguments = ["--mask", tmp_path / "mask.nii.gz", "--out", tmp_path / "out"]
    assert run("prepare", "nifti", subject / "cine.nii.gz", *arguments) == 0
    center = json.loads((tmp_path / "out/report.json").read_text())["prepared"]["center_row_column"]
    places = np.argwhere((labels > 0).any(axis=0))
    assert center == pytest.approx((places.min(axis=0) + places.max(axis=0)) / 2, abs=0.51)


def test_phantoms_are_prepared_and_fidelity_is_judged_against_them(model, tmp_path, capsys):
    counts = ["--num-train", 1, "--num-validation", 0, "--num-test", 14]
    assert run("prepare", "phantom", *counts, "--out", tmp_path / "phantoms") == 0
    assert run("generate", "--model", model, "--num-samples", 7, *FEW_STEPS, "--out", tmp_path / "generated") == 0
    capsys.readouterr()
    assert run("evaluate", "fidelity", tmp_path / "generated", tmp_path / "phantoms", "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["precision_recall"]["precision"] == 0  # an untrained model's noise is nowhere near a heart


def test_report_sets_a_real_cine_beside_its_generated_one(model, subject, tmp_path, capsys):
    out = tmp_path / "report"
    asked = ["--phenotypes", subject / "phenotypes.json", "--model", model]
    assert run("report", subject / "cine.nii.gz", *asked, "--out", out, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "report.json").read_text())
    assert sorted(path.name for path in out.iterdir()) == ["report.gif", "report.json", "report.png"]
    assert 0 < printed["vae_reconstruction"]["psnr_db"] < 30
    known = json.loads((subject / "phenotypes.json").read_text())["phenotypes"]
    rows = {row["phenotype"]: row for row in printed["phenotypes"]}
    assert {name: row["known"] for name, row in rows.items() if row["known"] is not None} == known
    assert all(rows[name]["completed"] == value for name, value in known.items())
    assert all(row["completed"] is not None for row in rows.values())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("LVEF,LVEDVV\n55,150\n", "unknown phenotype 'LVEDVV': did you mean 'LVEDV'"),
        ("LVEDV\n-150\n", "LVEDV = -150"),
        ("LVEDV,LVESV,LVEF\n150,60,30\n", "contradict each other"),
        ("LVEDV,LVESV\n100,130\n", "LVEDV must be above LVESV"),
        ("LVEF\n0.3\n", "multiply by 100"),
        ("LVEF\nthirty\n", "is no number"),
        ("LVEF,24103\n55,55\n", "both LVEF"),
        ("", "no readable CSV"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "sample-phenotypes"])
def test_a_bad_table_is_one_sentence_and_no_file(command, table, message, tmp_path, capsys):
    path = tmp_path / "table.csv"
    path.write_text(table)
    assert run(command, "--model", "never-loaded", "--phenotypes", path, "--out", tmp_path / "out") == 1
    assert_one_sentence(capsys, message)
    assert list(tmp_path.iterdir()) == [path]


def _truncate(model):
    path = model / "mar" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def _pickle(model):
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    torch.save({}, path.with_suffix(".bin"))
    path.unlink()


def _foreign(model):
    (model / "model_index.json").write_text('{"_class_name": "DiTPipeline"}')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "model.safetensors is damaged"),
        (_pickle, "is a pickle"),
        (_foreign, "describes DiTPipeline, not CPGGPipeline"),
        (shutil.rmtree, "there is no folder"),
    ],
)
def test_a_bad_checkpoint_is_one_sentence_and_no_file(model, damage, message, tmp_path, capsys):
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    damage(copy)
    assert run("generate", "--model", copy, "--set", "LVEF=30", "--out", tmp_path / "new" / "out") == 1
    assert_one_sentence(capsys, message)
    assert [path for path in tmp_path.iterdir() if path != copy] == []


def test_failing_half_way_leaves_nothing(model, tmp_path, capsys):
    out = tmp_path / "a" / "b"
    assert run("generate", "--model", model, "--num-decoding-steps", 41, "--out", out) == 1
    assert_one_sentence(capsys, "num_decoding_steps must lie between 1 and 40")
    assert list(tmp_path.iterdir()) == []


def test_results_are_never_overwritten(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    assert run("generate", "--model", "never-loaded", "--out", tmp_path / "out") == 1
    assert_one_sentence(capsys, "exists and is not empty")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def test_a_short_axis_plane_is_named_and_can_be_taken_anyway(model, subject, tmp_path, capsys):
    heart = nibabel.load(subject / "cine.nii.gz")
    cine = np.asarray(heart.dataobj)[:, :, 0].transpose(2, 1, 0)
    # A row to the left and back, a column down: the plane's normal is the textbook long axis.
    short_axis = affine_of_plane((1.8, 1.8), np.array([0.707, 0.707, 0.0, -0.332, 0.332, -0.883]))
    write_nifti(tmp_path / "sax.nii.gz", cine, 18.0, affine=short_axis)
    assert run("prepare", "nifti", tmp_path / "sax.nii.gz", "--out", tmp_path / "out") == 1
    assert_one_sentence(capsys, "looks like short-axis.*--view any")
    assert not (tmp_path / "out").exists()
    assert run("prepare", "nifti", tmp_path / "sax.nii.gz", "--view", "any", "--out", tmp_path / "out") == 0
    assert "view judged sax" in capsys.readouterr().out
    measure = ("measure", tmp_path / "sax.nii.gz", "--segmenter", f"{model}/field_segmenter")
    assert run(*measure) == 1
    assert_one_sentence(capsys, "looks like short-axis.*--view any")
    assert run(*measure, "--view", "any") == 0


def test_unreadable_images_are_one_sentence(model, subject, tmp_path, capsys):
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes((subject / "cine.nii.gz").read_bytes()[:3000])
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        (("measure", cut, "--segmenter", f"{model}/segmenter"), "cut off"),
        (("measure", tmp_path / "none.nii.gz", "--segmenter", f"{model}/segmenter"), "does not exist"),
        (("measure", subject / "cine.nii.gz", "--segmenter", tmp_path / "none"), "there is no segmenter"),
        (("prepare", "dicom", tmp_path / "empty", "--out", tmp_path / "out"), "empty"),
        (("evaluate", "controllability", tmp_path / "empty"), "holds neither"),
    ):
        assert run(*arguments) == 1
        assert_one_sentence(capsys, message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["sing"],
        ["generate", "--out", "x", "--set", "LVEF"],
        ["generate", "--out", "x", "--num-samples", "0"],
        ["generate", "--out", "x", "--seed", "-1"],
        ["generate", "--out", "x", "--seed", "99999999999999999999"],
        ["generate", "--out", "x", "--format", "avi"],
        ["generate", "--out", "x", "--set", "LVEF=30", "--phenotypes", "table.csv"],
        ["prepare", "nifti", "x.nii.gz", "--out", "x", "--view", "sax"],
    ],
)
def test_wrong_usage_exits_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: cpgg" in capsys.readouterr().err


def test_debug_shows_where_it_failed(tmp_path, capsys):
    arguments = ["generate", "--model", "never-loaded", "--set", "LVEF=0.3", "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert main([*arguments, "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def assert_one_sentence(capsys, message):
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert re.search(message, errors[0]), errors[0]


@pytest.fixture
def collection(tmp_path):
    """A table of one phantom, and of one subject whose file is not there."""
    heart = phantom.render(phantom.sample_phenotypes(1, 4)[0], 4)
    write_nifti(tmp_path / "anna.nii.gz", heart.cine[::5], 5 * heart.frame_time_ms, heart.spacing_mm)
    (tmp_path / "cohort.csv").write_text(
        "subject,path,LVEDV\nAnna-Example,anna.nii.gz,150\nBert-Example,absent.nii,\n"
    )
    return tmp_path


def test_prepare_cohort_sets_aside_and_goes_on(collection, capsys):
    arguments = ["--layout", "table", "--out", collection / "out", "--key-file", collection / "key"]
    assert run("prepare", "cohort", collection / "cohort.csv", *arguments) == 0
    printed = capsys.readouterr()
    assert "1 of 2 subjects prepared" in printed.out
    assert "set aside 1: the input does not exist; give a .nii or .nii.gz file." in printed.err
    assert "Example" not in printed.out
    assert run("prepare", "cohort", collection / "cohort.csv", *arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((collection / "out/report.json").read_text())


def test_a_collection_is_restricted_unless_it_is_said_to_be_public(collection, capsys):
    arguments = ["prepare", "cohort", collection / "cohort.csv", "--layout", "table", "--key-file", collection / "key"]
    found = {}
    for name, policy in (("restricted", []), ("public", ["--data-policy", "public"])):
        assert run(*arguments, "--segmenter", "none", *policy, "--out", collection / name) == 0
        assert f"{name} data; look at report.html there" in capsys.readouterr().out
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
    assert "take their middle slice with --view any" in capsys.readouterr().err


def test_prepare_ukb_prepares_what_the_reader_finds(collection, capsys, monkeypatch):
    from types import ModuleType

    from cpgg_hf.preparation.layouts import find_subjects

    asked = []

    def find_ukb_subjects(*arguments):
        asked.append(arguments)
        return find_subjects("table", collection / "cohort.csv")

    reader = ModuleType("cpgg_hf.preparation.ukb")
    reader.find_ukb_subjects = find_ukb_subjects
    monkeypatch.setitem(sys.modules, "cpgg_hf.preparation.ukb", reader)
    arguments = ["--bulk", "zips", "--phenotypes", "table.csv", "--instance", 3, "--key-file", collection / "key"]
    assert run("prepare", "ukb", *arguments, "--out", collection / "out") == 0
    assert asked == [("zips", "table.csv", 3)]
    assert "1 of 2 subjects prepared" in capsys.readouterr().out
