"""`cpgg phenotypes` lists what can be requested."""

from cpgg_hf.phenotypes import NAMES

from .running import run


def test_all_82_are_listed_with_field_unit_range_and_whether_a_four_chamber_view_shows_them(capsys):
    assert run("phenotypes") == 0
    _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[1] for row in rows] == list(NAMES)
    by_name = {row.split()[1]: " ".join(row.split()) for row in rows}
    assert by_name["LVEF"] == "24103 LVEF LV ejection fraction % 5 to 90 yes"
    assert by_name["LVM"] == "24105 LVM LV myocardial mass g 25 to 350 no"
    assert max(map(len, rows)) <= 100
