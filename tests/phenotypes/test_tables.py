import numpy as np
import pandas
import pytest
import torch

from cpgg_hf.errors import PhenotypeError
from cpgg_hf.phenotypes import NAMES, PHENOTYPES, as_array, as_frame, phenotype_index, read_csv, row_names, write_csv

MEANS = np.array([phenotype.mean for phenotype in PHENOTYPES])


@pytest.fixture
def rows():
    rows = MEANS * np.random.default_rng(0).uniform(0.9, 1.1, (4, 82))
    rows[2, 5] = np.nan
    return rows


@pytest.mark.parametrize(
    "form",
    [
        lambda rows: rows,
        torch.tensor,
        list,
        lambda rows: [torch.tensor(row) for row in rows],
        lambda rows: [dict(zip(NAMES, row, strict=True)) for row in rows],
        lambda rows: {name: rows[:, index] for index, name in reversed(list(enumerate(NAMES)))},
        lambda rows: pandas.DataFrame(rows[:, ::-1], columns=[f"f.{24181 - index}.2.0" for index in range(82)]),
        as_frame,
        lambda rows: as_frame(rows).rename(columns=str.lower),
        lambda rows: [row for _, row in as_frame(rows)[list(reversed(NAMES))].iterrows()],
    ],
    ids=[
        *("array", "tensor", "list", "tensors", "dicts", "dict of columns", "UK Biobank frame, reversed", "frame"),
        *("lower case", "list of series, reversed"),
    ],
)
def test_every_form_of_table_gives_the_same_array(rows, form):
    array = as_array(form(rows))
    assert array.dtype == np.float64
    np.testing.assert_array_equal(array, rows)


def test_what_is_absent_none_or_empty_is_missing():
    array = as_array([{"LVEF": 30, "LVEDV": None}, {24100: 220.0}])
    assert np.argwhere(np.isfinite(array)).tolist() == [[0, 3], [1, 0]]
    assert as_array({}).shape == (1, 82)
    assert as_array([{"subject": "s1"}, {"LVEF": 30}]).shape == as_array([{}, {}]).shape == (2, 82)


def test_a_series_is_one_heart():
    array = as_array(pandas.Series({"lvedv": 150.0, "Subject": "s1", 24103: 60.0}))
    assert array.shape == (1, 82)
    assert np.argwhere(np.isfinite(array))[:, 1].tolist() == [0, 3]
    with pytest.raises(PhenotypeError, match="'LVEF' is there twice"):
        as_array(pandas.Series([60.0, 61.0], index=["LVEF", "LVEF"]))


def test_subjects_stay_with_their_rows(rows):
    frame = as_frame(rows).set_index(pandas.Index(["d", "b", "c", "a"], name="subject"))
    named = as_frame(as_array(frame).repeat(2, axis=0), row_names(frame, 2))
    assert named.index.to_list() == ["d", "d", "b", "b", "c", "c", "a", "a"]
    assert named.index.name == "subject"
    assert named.loc["b", "LVEDV"].tolist() == [rows[1, 0]] * 2
    assert as_frame(rows[1], row_names(frame.loc["b"])).index.to_list() == ["b"]
    for unnamed in (as_frame(rows), as_frame(rows[0]).iloc[0].rename(None), rows, [{"LVEF": 60}], None):
        assert row_names(unnamed, 2) is None


@pytest.mark.parametrize(
    "table",
    [
        {"subject": "s1"},
        [{"eid": 1}, {"eid": 2}],
        pandas.Series({"subject": "s1"}),
        pandas.DataFrame({"f.eid": [1, 2]}),
        pandas.DataFrame(index=["s1"]),
    ],
    ids=["dict", "dicts", "series", "frame", "only an index"],
)
def test_a_table_without_a_phenotype_is_refused(table):
    with pytest.raises(PhenotypeError, match="no column of the table is a phenotype; name at least one"):
        as_array(table)


def test_csv_gives_back_the_same_numbers(rows, tmp_path):
    write_csv(rows, tmp_path / "phenotypes.csv")
    np.testing.assert_array_equal(read_csv(tmp_path / "phenotypes.csv"), rows)


def test_csv_from_uk_biobank_is_read_with_its_subject_column(tmp_path):
    path = tmp_path / "ukb.csv"
    path.write_text("eid,24103-2.0,24100-2.0\n1000010,61.5,\n1000028,NA,150\n")
    array = read_csv(path)
    assert array.shape == (2, 82)
    assert (array[0, 3], array[1, 0], np.isfinite(array).sum()) == (61.5, 150.0, 2)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("LVEDV,LVEV\n150,60\n", "LVEV"),
        ("LVEDV,LVEDV\n150,160\n", "LVEDV"),
        ("24103-2.0,24103-3.0\n60,61\n", "24103-3.0"),
        ("LVEDV\nbig\n", "big"),
        ("LVEDV\n1_50\n", "'1_50' is not a number"),
        (f"LVEDV\n{100_000 * 'x'}\n", r"LVEDV = 'x{10,20}\.\.\.x{10,20}' is not a number"),
        (f"{100_000 * 'x'}\n1\n", r"unknown phenotype 'x{10,20}\.\.\.x{10,20}'; "),
        (f"{5000 * '9'}\n1\n", r"unknown phenotype '9+\.\.\.9+'; "),
        ("2²\n1\n", "unknown phenotype '2²'; "),
        ("LVEDV\n", "is empty; give at least one row"),
        (",LVEDV\n0,150\n", "has no name"),
        ("", "not a readable CSV"),
    ],
)
def test_a_csv_that_cannot_be_meant_is_refused_with_file_and_column(tmp_path, content, named):
    path = tmp_path / "broken.csv"
    path.write_text(content)
    with pytest.raises(PhenotypeError, match=named) as caught:
        read_csv(path)
    assert "broken.csv" in str(caught.value)


@pytest.mark.parametrize("shape", [(3, 81), (82, 3), (1, 2, 82), ()])
def test_a_wrong_shape_is_refused(shape):
    with pytest.raises(PhenotypeError, match="82"):
        as_array(np.zeros(shape))


@pytest.mark.parametrize("table", [np.zeros((0, 82)), [], {"LVEF": []}])
def test_a_table_without_rows_is_refused(table):
    with pytest.raises(PhenotypeError, match="is empty; give at least one row"):
        as_array(table)


@pytest.mark.parametrize(
    ("column", "value", "remedy"),
    [
        ("LVEDV", -150.0, "cannot be negative"),
        ("LVEF", 0.55, "multiply by 100"),
        ("LVEDV", 0.143, "multiply by 1000"),
        ("LVEDV", 1.43e-4, r"m\^3"),
        ("LAV_min", -20.0, "negative"),
        ("LVCO", 5340.0, "mL/min"),
        ("WT_AHA_3", 0.7, "cm"),
        ("AAo_max_area", 8.97, r"cm\^2"),
        ("DAo_distensibility", 0.0025, "1/mmHg"),
        ("Ecc_Global", 22.3, "sign"),
        ("Ell_1", -0.185, "fraction"),
        ("Err_Global", 0.45, "fraction"),
        ("LVM", np.inf, "finite"),
    ],
)
def test_a_wrong_unit_is_refused_with_column_value_unit_range_and_remedy(column, value, remedy):
    with pytest.raises(PhenotypeError, match=remedy) as caught:
        as_array([{}, {column: value}])
    phenotype = PHENOTYPES[NAMES.index(column)]
    for part in ("row 1", f"{column} = {value:g} {phenotype.unit}", f"{phenotype.minimum:g} to {phenotype.maximum:g}"):
        assert part in str(caught.value)


def test_an_unusual_heart_is_no_unit_error():
    unusual = {"LVEF": 4.0, "LVEDV": 520.0, "WT_AHA_14": 1.3, "Ell_1": -0.5, "Ell_2": -12.0, "Ecc_AHA_1": 0.0}
    array = as_array(unusual)
    assert [array[0, NAMES.index(name)] for name in unusual] == list(unusual.values())


@pytest.mark.parametrize("factor", [9, 15])
def test_a_value_above_ten_times_the_plausible_maximum_is_refused(factor):
    maximum = PHENOTYPES[phenotype_index("LVEDV")].maximum
    if factor < 10:
        assert as_array({"LVEDV": factor * maximum})[0, 0] == factor * maximum
    else:
        with pytest.raises(PhenotypeError, match="has the wrong magnitude; give it in mL"):
            as_array({"LVEDV": factor * maximum})
