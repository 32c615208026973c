"""UK Biobank's zips and tables, proved on phantoms in the same form: right cines, right numbers, reasons."""

import pickle
import zipfile

import numpy as np
import pandas
import pytest
from phantom_zips import COLUMN_FORMS, KINDS, write_ukb_zips

from cpgg_hf.errors import InputError
from cpgg_hf.phenotypes import NAMES
from cpgg_hf.preparation.grid.view import classify_view
from cpgg_hf.preparation.layouts.ukb import find_ukb_subjects, read_ukb_zip
from cpgg_hf.preparation.layouts.ukb.manifest import parse_manifest
from cpgg_hf.preparation.layouts.ukb.table import read_ukb_phenotypes
from cpgg_hf.scans.dicom import read_dicom_folder


@pytest.fixture(scope="module")
def subjects(biobank):
    folder, _ = biobank
    return {subject.identifier: subject for subject in find_ukb_subjects(folder / "bulk", folder / "phenotypes.csv")}


def of_kind(biobank, kind):
    return next(one for one in biobank[1] if one.kind == kind)


@pytest.mark.parametrize("kind", [kind for kind, usable in KINDS.items() if usable])
def test_the_four_chamber_cine_comes_back_pixel_by_pixel(biobank, subjects, kind):
    truth = of_kind(biobank, kind)
    series = subjects[truth.eid].read()
    assert np.array_equal(series.pixels, truth.cine)
    assert series.frame_time_ms == pytest.approx(truth.frame_time_ms)
    assert series.spacing_mm == (1.8, 1.8)
    assert classify_view(series.normal).view == "4ch"
    expected = {"repeated": "2 four-chamber series; the last one was used", "no_manifest": "no usable manifest"}
    assert [expected[kind] in note for note in series.warnings] == ([True] if kind in expected else [])


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("label_of_another_view", r"labelled 'CINE_segmented_LAX_4Ch' looks like short-axis \(SAX\).*leave it out"),
        ("frame_missing", "four-chamber series has 49 frames, expected 50"),
        ("no_four_chamber", "no series labelled four-chamber, only 'CINE_segmented_LAX_2Ch', 'CINE"),
    ],
)
def test_zips_without_a_usable_one_are_refused_with_the_reason(biobank, subjects, kind, reason):
    with pytest.raises(InputError, match=reason):
        subjects[of_kind(biobank, kind).eid].read()


def test_subjects_are_joined_with_their_phenotypes(biobank, subjects):
    assert list(subjects) == sorted(one.eid for one in biobank[1])
    for truth in biobank[1]:
        assert len(truth.eid) == 7
        assert np.isnan(truth.phenotypes).any()
        assert np.array_equal(subjects[truth.eid].phenotypes, truth.phenotypes, equal_nan=True)
        assert subjects[truth.eid].source == "ukb"
        assert pickle.loads(pickle.dumps(subjects[truth.eid])).identifier == truth.eid


@pytest.mark.parametrize("form", COLUMN_FORMS)
def test_every_form_of_columns_is_read(tmp_path, form):
    (truth,) = write_ukb_zips(tmp_path, 1, seed=5, column_form=form, instance=3)
    (subject,) = find_ukb_subjects(tmp_path / "bulk", tmp_path / "phenotypes.csv", instance=3)
    assert np.array_equal(subject.phenotypes, truth.phenotypes)
    with pytest.raises(InputError, match=r"no zip of instance 2; expected names such as 1234567_20208_2_0\.zip"):
        find_ukb_subjects(tmp_path / "bulk", tmp_path / "phenotypes.csv")


def test_zips_are_the_same_for_the_same_seed(biobank, tmp_path):
    (again,) = write_ukb_zips(tmp_path, 1, seed=3, kinds=["plain"])
    assert again.path.name == biobank[1][0].path.name
    with zipfile.ZipFile(again.path) as one, zipfile.ZipFile(biobank[1][0].path) as other:
        assert {info.filename: info.CRC for info in one.infolist()} == {
            info.filename: info.CRC for info in other.infolist()
        }


def test_an_unpacked_zip_holds_several_series_as_any_reader_sees_them(biobank, tmp_path):
    with zipfile.ZipFile(of_kind(biobank, "plain").path) as archive:
        archive.extractall(tmp_path)
    with pytest.raises(InputError, match="holds 4 series, expected one"):
        read_dicom_folder(tmp_path)


@pytest.fixture
def table(tmp_path):
    """A table of three participants that a test may change before it is written."""
    columns = {f"{24100 + index}-2.0": [str(60.0 + index)] * 3 for index in range(3)}
    return pandas.DataFrame({"eid": ["1000001", "1000002", "1000003"], "31-0.0": ["1", "0", "1"], **columns})


def read_table(tmp_path, table, **options):
    table.to_csv(tmp_path / "table.csv", index=False)
    return read_ukb_phenotypes(tmp_path / "table.csv", {"1000001", "1000002"}, **options)


def test_only_those_requested_are_read_in_any_order(tmp_path, table):
    table.loc[1, "24101-2.0"] = ""
    found = read_table(tmp_path, table.iloc[::-1])
    assert set(found) == {"1000001", "1000002"}
    assert found["1000001"][:3].tolist() == [60, 61, 62]
    assert np.isnan(found["1000001"][3:]).all()
    assert np.isnan(found["1000002"][1])


def test_columns_are_read_in_any_order(tmp_path, table):
    found = read_table(tmp_path, table[table.columns[::-1]])
    assert found["1000001"][:3].tolist() == [60, 61, 62]


def test_participants_written_as_numbers_with_a_point_are_the_same(tmp_path, table):
    table["eid"] += ".0"
    assert set(read_table(tmp_path, table)) == {"1000001", "1000002"}


def test_rows_that_cannot_be_used_say_why_and_spare_the_others(tmp_path, table):
    table.loc[1, "24103-2.0"] = "0.55"
    table.loc[0, "24103-2.0"] = "55"
    found = read_table(tmp_path, table)
    assert found["1000001"][3] == 55
    assert "LVEF = 0.55 %" in str(found["1000002"])
    table.loc[1, "24103-2.0"] = "much"
    assert "LVEF = 'much' is not a number" in str(read_table(tmp_path, table)["1000002"])


def test_a_row_that_was_shifted_is_not_read(tmp_path, table):
    (tmp_path / "table.csv").write_text("eid,24100-2.0,24101-2.0\n1000001,3,150,60\n1000002,150\n")
    found = read_ukb_phenotypes(tmp_path / "table.csv", {"1000001", "1000002"})
    assert "has 4 values, expected 3" in str(found["1000001"])
    assert "has 2 values, expected 3" in str(found["1000002"])


def test_a_participant_with_two_rows_is_refused_where_they_differ(tmp_path, table):
    twice = pandas.concat([table, table])
    assert not isinstance(read_table(tmp_path, twice)["1000001"], InputError)
    twice.iloc[4, 3] = "70.5"
    assert f"differ, first in {NAMES[1]}" in str(read_table(tmp_path, twice)["1000002"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eid": "participant"}, "has 0 columns of participants, expected one"),
        ({"31-0.0": "f.eid"}, "has 2 columns of participants"),
        ({"24100-2.0": "24100-3.0", "24101-2.0": "24101-3.0", "24102-2.0": "x"}, "no column of the fields 24100 to"),
        ({"24101-2.0": "p24100_i2"}, "two columns of field 24100, instance 2"),
    ],
)
def test_tables_of_another_form_are_refused(tmp_path, table, change, message):
    with pytest.raises(InputError, match=message):
        read_table(tmp_path, table.rename(columns=change))


def test_what_is_no_table_is_refused(tmp_path):
    for content in (b"", b"\x00\xff" * 50, b'eid,24100-2.0\n1,"' + b"x" * 200_000):
        (tmp_path / "table.csv").write_bytes(content)
        with pytest.raises(InputError, match=r"table\.csv"):
            read_ukb_phenotypes(tmp_path / "table.csv", {"1000001"})


def test_two_zips_of_a_visit_and_a_table_of_others_are_refused(biobank, tmp_path, table):
    truth = of_kind(biobank, "plain")
    for name in (truth.path.name, truth.path.name.replace("_0.zip", "_1.zip")):
        (tmp_path / "bulk" / name[:2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "bulk" / name[:2] / name).symlink_to(truth.path)
    table.loc[0, "eid"] = truth.eid
    table.to_csv(tmp_path / "table.csv", index=False)
    (subject,) = find_ukb_subjects(tmp_path / "bulk", tmp_path / "table.csv")
    with pytest.raises(InputError, match="are of one participant and visit; keep one"):
        subject.read()
    table.loc[0, "eid"] = "1999999"
    table.to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(InputError, match="has a row for none of the 1 participants") as caught:
        find_ukb_subjects(tmp_path / "bulk", tmp_path / "table.csv")
    assert "in the column 'eid', as 1234567 or 1234567.0, next to 3 columns of phenotypes such as '24100-2.0'" in str(
        caught.value
    )
    assert truth.eid not in str(caught.value)


def test_manifests_are_read_through_their_commas():
    header = "filename,patientid,date,series discription,aet"
    rows = [
        "a.dcm,1,Aug 30, 2015 10:02:03 AM,CINE_segmented_LAX_4Ch,X",
        'b.dcm,1,2015-08-30,"CINE, segmented",X',
        "c.dcm,1,Aug 30, 2015,a comma, too many,X",
        "d.dcm,1,Aug",
        'e.dcm,1,"open quote,LAX,X',
    ]
    assert parse_manifest("\r\n".join([header, *rows])) == {
        "a.dcm": "CINE_segmented_LAX_4Ch",
        "b.dcm": "CINE, segmented",
    }
    assert parse_manifest("filename,Series Description\na.dcm,LAX\n") == {"a.dcm": "LAX"}
    for text in ("", "\x00\x01", "no,header\nof,ours\n"):
        assert parse_manifest(text) == {}


def test_a_truncated_zip_is_one_subjects_reason(biobank, tmp_path):
    content = of_kind(biobank, "plain").path.read_bytes()
    path = tmp_path / "1000001_20208_2_0.zip"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="is not a zip, or truncated"):
        read_ukb_zip(path)
