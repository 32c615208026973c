"""Each collection's folders, made from the phantom in the form in which they are handed out."""

import numpy as np
import pytest

from cpgg_hf.errors import InputError
from cpgg_hf.phenotypes import NAMES
from cpgg_hf.preparation.cohorts.cohort import prepare_cohort
from cpgg_hf.preparation.layouts import LAYOUTS, find_subjects

from .phantom_files import heart, save_dicom, save_nifti, save_stack_of_nifti

FOUR_CHAMBER = (0.99781, -0.04245, 0.05064, 0.0, 0.76634, 0.64244)


def known(subject) -> dict[str, float]:
    return {name: value for name, value in zip(NAMES, subject.phenotypes, strict=True) if not np.isnan(value)}


@pytest.fixture
def acdc(tmp_path):
    for patient, ed in (("training/patient001", 1), ("training/patient002", 4), ("testing/patient101", 99)):
        folder = tmp_path / "database" / patient
        save_stack_of_nifti(folder / f"{folder.name}_4d.nii.gz", np.roll(heart(), ed - 1, axis=0))
        (folder / "Info.cfg").write_text(f"ED: {ed}\nES: 5\nGroup: DCM\nHeight: 184.0\nNbFrame: 10\nWeight: 95.0\n")
        save_nifti(folder / f"{folder.name}_frame01.nii.gz", [heart()[:1]])
    (tmp_path / "database/training/patient003").mkdir()
    return tmp_path


def test_acdc_gives_the_middle_slice_from_end_diastole_on(acdc):
    subjects = find_subjects("acdc", acdc, "any")
    assert [subject.identifier for subject in subjects] == ["patient101", "patient001", "patient002", "patient003"]
    for subject in subjects[1:3]:
        assert np.array_equal(subject.read().pixels, heart())
    assert "begins at frame 4" in subjects[2].read().warnings[-1]
    with pytest.raises(InputError, match="has 10 frames, but the end-diastolic frame is given as 99"):
        subjects[0].read()
    with pytest.raises(InputError, match=r"Info\.cfg is missing"):
        subjects[3].read()


def test_acdc_without_frame_times_takes_the_beat_that_is_given(acdc):
    for path in acdc.rglob("patient001_4d.nii.gz"):
        save_stack_of_nifti(path, heart(), frame_time=1.0)
    with pytest.raises(InputError, match="implies no RR interval"):
        find_subjects("acdc", acdc, "any")[1].read()
    rr_ms = [subject.read().rr_ms for subject in find_subjects("acdc", acdc, "any", rr_ms=800)[1:3]]
    assert rr_ms == pytest.approx([800, 900])  # patient002 states its own


def test_mnms_takes_its_subjects_from_the_table(tmp_path):
    root = tmp_path / "OpenDataset"
    for place, code in (("Training/Labeled", "A0S9V9"), ("Validation", "A5C2D2")):
        save_stack_of_nifti(root / place / code / f"{code}_sa.nii.gz", np.roll(heart(), 3, axis=0))
        save_stack_of_nifti(root / place / code / f"{code}_sa_gt.nii.gz", heart())
    (root / "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv").write_text(
        ",External code,VendorName,Vendor,Centre,ED,ES,Age,Pathology,Sex,Height,Weight\n"
        "0,A0S9V9,Siemens,A,1,3,8,59.0,HCM,F,172.0,63.0\n"
        "1,A5C2D2,Siemens,A,1,3,8,59.0,NOR,F,172.0,63.0\n"
        "2,A9Z9Z9,Canon,D,5,0,8,59.0,NOR,F,172.0,63.0\n"
        "3,A5C2D2,Siemens,A,1,,,59.0,NOR,F,172.0,63.0\n"
    )
    subjects = find_subjects("mnms", tmp_path, "any")
    assert [subject.identifier for subject in subjects] == ["A0S9V9", "A5C2D2", "A9Z9Z9", "A5C2D2"]
    for subject in subjects[:2]:
        assert np.array_equal(subject.read().pixels, heart())
    with pytest.raises(InputError, match="its short-axis file is missing"):
        subjects[2].read()
    with pytest.raises(InputError, match="has no ED frame"):
        subjects[3].read()


def test_mnms2_prefers_the_four_chamber_cine(tmp_path):
    root = tmp_path / "MnM2"
    save_nifti(root / "dataset/001/001_LA_CINE.nii.gz", [heart()], orientation=FOUR_CHAMBER)
    for code in ("001", "012"):
        save_stack_of_nifti(root / "dataset" / code / f"{code}_SA_CINE.nii.gz", heart(1))
    (root / "dataset_information.csv").write_text(
        "SUBJECT_CODE,DISEASE,VENDOR,SCANNER,FIELD\n1,NOR,GE MEDICAL SYSTEMS,SIGNA EXCITE,1.5\n12,HCM,,,\n,,,,\n"
    )
    first, second = find_subjects("mnms2", tmp_path)
    assert (first.identifier, second.identifier) == ("001", "012")
    assert np.array_equal(first.read().pixels, heart())
    with pytest.raises(InputError, match=r"012_LA_CINE\.nii\.gz does not exist"):
        second.read()
    assert np.array_equal(find_subjects("mnms2", tmp_path, "any")[1].read().pixels, heart(1))


@pytest.mark.parametrize("series", ["CINESAX_300", ""], ids=["series folders", "flat copy"])
def test_sunnybrook_gives_the_middle_of_the_larger_short_axis_series(tmp_path, series):
    patient = tmp_path / "SCD_IMAGES_01/SCD0000101"
    for number in range(3):
        save_dicom(patient / series, heart(int(number != 1)), slice_number=number)
    if series:
        save_dicom(patient / "CINESAX_200", heart(2))
        save_dicom(patient / "CINELAX_301", heart(2), four_chamber=True)
    (subject,) = find_subjects("sunnybrook", tmp_path, "any")
    assert (subject.identifier, subject.source) == ("SCD0000101", "sunnybrook")
    assert np.array_equal(subject.read().pixels, heart())


@pytest.fixture
def kaggle(tmp_path):
    for number in ("1", "2", "3"):
        for slice_number in range(3):
            place = tmp_path / f"train/train/{number}/study/sax_{slice_number + 5}"
            save_dicom(place, heart(int(slice_number == 1)), slice_number=slice_number)
    for number, again in (("1", "4ch_9"), ("1", "4ch_17"), ("2", "4ch_7")):
        cine = heart() if again != "4ch_9" else heart(2)
        save_dicom(tmp_path / f"train/train/{number}/study/{again}", cine, four_chamber=True)
    save_dicom(tmp_path / "validate/validate/501/study/4ch_3", heart(), four_chamber=True)
    (tmp_path / "train.csv").write_text("Id,Systole,Diastole\n1,60.0,180.0\n2,190.0,180.0\n3,60,150\n")
    return tmp_path


def test_kaggle_joins_volumes_and_takes_the_last_four_chamber_series(kaggle):
    subjects = {subject.identifier: subject for subject in find_subjects("kaggle", kaggle)}
    assert set(subjects) == {"1", "2", "3", "501"}
    assert np.array_equal(subjects["1"].read().pixels, heart())
    assert known(subjects["1"]) == pytest.approx({"LVEDV": 180, "LVESV": 60, "LVSV": 120, "LVEF": 200 / 3})
    assert subjects["501"].phenotypes is None
    assert [name for name, subject in subjects.items() if subject.without_row] == ["501"]
    with pytest.raises(InputError, match=r"volumes cannot be right: .*LVEDV must be above LVESV.*[^.]\.$"):
        subjects["2"].read()
    with pytest.raises(InputError, match="no four-chamber series"):
        subjects["3"].read()


def test_kaggle_studies_of_other_tables_are_refused_and_those_without_a_table_are_not(kaggle):
    (kaggle / "train.csv").write_text("Id,Systole,Diastole\n11,60.0,180.0\n")
    with pytest.raises(InputError, match=r"train.csv have a row for none of the 4 studies, .* column 'Id'"):
        find_subjects("kaggle", kaggle)
    (kaggle / "train.csv").unlink()
    assert not any(subject.without_row for subject in find_subjects("kaggle", kaggle))


def test_kaggle_with_any_view_falls_back_to_the_middle_slice(kaggle):
    third = find_subjects("kaggle", kaggle, "any")[2]
    assert np.array_equal(third.read().pixels, heart(1))
    assert known(third)["LVEF"] == pytest.approx(60)


def test_a_table_maps_files_to_subjects_and_phenotypes(tmp_path):
    save_nifti(tmp_path / "scans/a.nii.gz", [heart()], orientation=FOUR_CHAMBER, frame_time=1.0)
    save_dicom(tmp_path / "scans/b", heart(1), four_chamber=True)
    table = tmp_path / "cohort.csv"
    table.write_text(
        "subject, path, rr_ms, LVEDV, 24101-2.0\n"
        "Anna, scans/a.nii.gz, 850, 150, 60\n"
        f"Bert, {tmp_path}/scans/b, , , \n"
        "Carl, scans/c.nii.gz, , 150, 160\n"
        "Dora, scans/a.nii.gz, soon, ,\n"
        "\n"
    )
    anna, bert, carl, dora = find_subjects("table", table)
    assert anna.read().rr_ms == pytest.approx(850)
    assert known(anna) == pytest.approx({"LVEDV": 150, "LVESV": 60, "LVSV": 90, "LVEF": 60})
    assert np.array_equal(bert.read().pixels, heart(1))
    assert known(bert) == {}
    for subject, message in ((carl, "LVEDV must be above LVESV"), (dora, "could not convert")):
        with pytest.raises(InputError, match=rf"the table's row cannot be used: .*{message}.*[^.]\.$"):
            subject.read()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("subject,file\na,b\n", "has no column 'path', only subject, file"),
        ("subject,path,LVXF\na,b,1\n", "unknown phenotype 'LVXF'"),
        ("subject,path\n", "holds no subject in the layout table"),
        ("", "has no column 'subject', only none"),
    ],
)
def test_a_table_of_another_form_is_refused_at_once(tmp_path, content, message):
    (tmp_path / "cohort.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        find_subjects("table", tmp_path / "cohort.csv")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_of_another_form_is_refused(tmp_path, layout):
    with pytest.raises(InputError, match=r"give the folder|holds no subject|is not a CSV file"):
        find_subjects(layout, tmp_path, "any")
    with pytest.raises(InputError, match=r"short-axis stacks only|is not a (folder|CSV file)"):
        find_subjects(layout, tmp_path if layout in ("acdc", "mnms", "sunnybrook") else tmp_path / "absent")


def test_a_collection_becomes_a_data_set(acdc, tmp_path):
    report = prepare_cohort(
        find_subjects("acdc", acdc, "any"), tmp_path / "out", tmp_path / "key", view="any", progress=False
    )
    assert (report["num_used"], report["num_excluded"]) == (2, 2)
    assert report["views"] == {"sax": 2}
    assert any("the end-diastolic frame is given as 99" in reason for reason in report["reasons"])
    for path in (tmp_path / "out").rglob("*.*"):
        assert not any(name in path.read_bytes() for name in (b"patient0", b"patient1", b"database"))
    used = [record for record in report["subjects"] if "reason" not in record]
    assert all("a stack of 3 slices; slice 2, the middle one, was taken." in one["warnings"] for one in used)
    assert sum("begins at frame 4" in str(record["warnings"]) for record in used) == 1
