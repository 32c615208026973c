"""Messages in reports: they still say what is wrong, and nothing about whose it is."""

from functools import partial
from pathlib import Path

import pytest

from cpgg_hf.preparation.cohorts.redaction import redact
from cpgg_hf.preparation.layouts.subject import Subject


def read(path):
    raise AssertionError("messages are cleaned without reading again")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("{folder} holds 7 frames, a cine needs at least 8.", "the input holds 7 frames, a cine needs at least 8."),
        ("{folder}: no usable trigger times.", "no usable trigger times."),
        ("{folder}/Doe Jane 1.dcm is cut off; copy it again.", "the input is cut off; copy it again."),
        ("a frame of 'Doe^Jane' (e.g. IM1.dcm); sort it.", "a frame of '...'; sort it."),
        ("4012345_20208_2_0.zip is empty", "the input is empty"),
        ("bulk/4012345_20208_2_0.zip: it has 49 frames", "it has 49 frames"),
        ("EID4012345 and MRN 87654321", "the input and MRN a number"),
        ("series 1.2.840.10008.5.1 twice", "series a UID twice"),
        ("the plane's place in the patient's body", "the plane's place in the patient's body"),
        ("give a .nii or .nii.gz file.", "give a .nii or .nii.gz file."),
        ("../elsewhere/x is 1.8 mm", "a file is 1.8 mm"),
        ("{folder} has no 4CH, only 'Doe 2CH', 'Doe SAX'; leave it out.", "the input has no 4CH; leave it out."),
        ("{folder}: sizes differ, 8 x 8 (a1.dcm) and 9 x 9 (b2.dcm).", "sizes differ, 8 x 8 and 9 x 9."),
        ("4012345_2_0.zip and 4012345_2_1.zip are of one visit", "several files are of one visit"),
        ("{folder}/a, {folder}/b, {folder}/c: no images here.", "no images here."),
        ("x differs between a1.dcm and b2.dcm (1 and 2)", "x differs between several files (1 and 2)"),
        ("no float: 'soon'", "no float: '...'"),
        ("only 8 frames (expected 50), only one", "only 8 frames (expected 50), only one"),
    ],
)
def test_what_identifies_is_gone(tmp_path, message, expected):
    folder = tmp_path / "Jane Doe 4012345"
    folder.mkdir()
    (folder / "Doe Jane 1.dcm").touch()
    subject = Subject("4012345", partial(read, str(folder)))
    assert redact(message.format(folder=folder), subject) == expected


def test_a_short_number_as_identifier_leaves_the_words_alone():
    subject = Subject("7", partial(read, Path("/kaggle/train/7/study/4ch_12")))
    message = "/kaggle/train/7/study/4ch_12 holds 7 frames; give at least 8."
    assert redact(message, subject) == "the input holds 7 frames; give at least 8."


def test_a_reason_that_a_subject_carries_along_is_no_name(tmp_path):
    reason = f"{tmp_path}/table.csv: LVEF = 0.55 % looks like a fraction; multiply by 100."
    kept = redact(reason, Subject("4012345", partial(read, reason)))
    assert kept == "LVEF = 0.55 % looks like a fraction; multiply by 100."


def test_a_name_too_long_for_any_file_is_hidden_all_the_same():
    name = "/" + 300 * "Jane"
    assert redact(f"{name} does not exist.", Subject("4012345", partial(read, name))) == "the input does not exist."


def test_what_would_steer_a_terminal_is_gone():
    assert redact("no grey image (\x1b[2J).", Subject("4012345", partial(read))) == "no grey image (?[2J)."


def test_names_in_linked_folders_are_hidden(tmp_path):
    for folder in ("scan", "elsewhere"):
        (tmp_path / folder).mkdir()
    (tmp_path / "elsewhere/Doe Jane 1.dcm").touch()
    (tmp_path / "scan/linked").symlink_to(tmp_path / "elsewhere")
    subject = Subject("4012345", partial(read, str(tmp_path / "scan")))
    message = f"{tmp_path}/scan/linked/Doe Jane 1.dcm is cut off; copy it again."
    assert redact(message, subject) == "the input is cut off; copy it again."
    assert "Doe" not in redact("sizes differ (Doe Jane 1.dcm and b2.dcm).", subject)
