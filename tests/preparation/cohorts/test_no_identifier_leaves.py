"""`cpgg prepare ukb` from zips to data set: no EID leaves, in whatever form, in whatever file."""

import json
import shutil
import struct

import numpy as np
import pyarrow.parquet
import pytest
from phantom_zips import write_ukb_zips
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cpgg_hf.cine import Cine
from cpgg_hf.cli.main import main
from cpgg_hf.dataset import cine_row, write_shard
from cpgg_hf.preparation.cohorts import cohort
from cpgg_hf.preparation.cohorts.pseudonyms import pseudonym

from .identifier_search import find_identifiers

SHARD = "train-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def prepared(biobank, tmp_path_factory):
    """The data set, what was printed while it was made, and what its unfinished work folder gave away."""
    place, truth = biobank
    out = tmp_path_factory.mktemp("prepared") / "out"
    (out.parent / "key").write_text("5" * 64)
    arguments = ["--bulk", place / "bulk", "--phenotypes", place / "phenotypes.csv", "--out", out]
    unfinished = []

    def assemble(plan, folder, work, own=cohort._assemble):
        unfinished.extend(find_identifiers([one.eid for one in truth], work))
        own(plan, folder, work)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cohort, "_assemble", assemble)
        # Found by its motion: faster than the network, and for identifiers the same.
        command = ["prepare", "ukb", *arguments, "--segmenter", "none", "--key-file", out.parent / "key"]
        assert main([str(argument) for argument in command]) == 0
    return out, [str(argument) for argument in command], unfinished


def test_the_data_set_its_report_and_what_is_printed_name_nobody(biobank, prepared, capfd):
    out, command, unfinished = prepared
    eids = [one.eid for one in biobank[1]]
    assert unfinished == []
    assert main(command) == 0
    assert main([*command, "--json"]) == 0
    printed = capfd.readouterr()
    assert "4 of 7 subjects prepared" in printed.out
    assert "excluded 1: the four-chamber series has 49 frames, expected 50" in printed.err
    assert find_identifiers(eids, out, printed.out, printed.err) == []
    expected = {"README.md", "dataset.json", "phenotypes.png", "report.html", "report.json", "thumbnails", SHARD}
    assert {path.name for path in out.iterdir()} >= expected


def test_of_hearts_and_reasons_nothing_is_lost_for_that(biobank, prepared):
    """The same cines and phenotypes are there; the search would find nothing in an empty folder, too."""
    out, *_ = prepared
    rows = [row for path in out.glob("*.parquet") for row in pyarrow.parquet.read_table(path).to_pylist()]
    lvedv = sorted(row["phenotypes"][0] for row in rows)
    usable = ("plain", "repeated", "no_manifest", "damaged_manifest")
    assert np.allclose(lvedv, sorted(one.phenotypes[0] for one in biobank[1] if one.kind in usable), equal_nan=True)
    report = json.loads((out / "report.json").read_text())
    assert (report["num_used"], report["num_excluded"], len(report["reasons"])) == (4, 3, 3)


def test_participants_without_a_row_are_used_and_counted_but_not_named(tmp_path, capfd):
    truth = write_ukb_zips(tmp_path / "input", 2, seed=3)
    table = tmp_path / "input/phenotypes.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if not line.startswith(truth[0].eid)))
    (tmp_path / "key").write_text("5" * 64)
    arguments = ["--bulk", tmp_path / "input/bulk", "--phenotypes", table, "--out", tmp_path / "out"]
    command = ["prepare", "ukb", *arguments, "--segmenter", "none", "--key-file", tmp_path / "key"]
    assert main([str(argument) for argument in command]) == 0
    printed = capfd.readouterr()
    assert "2 of 2 subjects prepared" in printed.out
    assert "1 of them have no row in the table, so no phenotypes" in printed.out
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["num_without_row"] == 1
    noted = [one["subject"] for one in report["subjects"] if "has no row for this subject" in str(one["warnings"])]
    assert noted == [pseudonym(truth[0].eid, bytes.fromhex("5" * 64))]
    page = (tmp_path / "out/report.html").read_text()
    assert 'without a row in the table of phenotypes</th><td class="number">1</td>' in page
    rows = [
        row for path in (tmp_path / "out").glob("*.parquet") for row in pyarrow.parquet.read_table(path).to_pylist()
    ]
    known = {row["subject"]: int(np.isfinite(row["phenotypes"]).sum()) for row in rows}
    assert known == {name: 0 if name in noted else 82 for name in known}
    assert len(known) == 2
    assert find_identifiers([one.eid for one in truth], tmp_path / "out", printed.out, printed.err) == []


def in_a_file_name(folder, eid):
    next(iter((folder / "thumbnails").iterdir())).rename(folder / "thumbnails" / f"{eid}.png")
    return f"name of thumbnails/{eid}.png"


def in_a_hidden_file(folder, eid):
    (folder / ".plan").write_bytes(b"\x00" + struct.pack("<q", int(eid)))
    return ".plan"


def in_the_page(folder, eid):
    page = (folder / "report.html").read_text()
    (folder / "report.html").write_text(page + "<!-- " + "".join(f"&#{ord(digit)};" for digit in eid) + " -->")
    return "report.html"


def in_the_card(folder, eid):
    with (folder / "README.md").open("a") as file:
        file.write(f"| {eid}_20208_2_0.zip |\n")
    return "README.md"


def in_escaped_json(folder, eid):
    escaped = "".join(f"\\u{ord(digit):04x}" for digit in eid)
    (folder / "report.json").write_text(f'{{"subjects": [{{"{escaped}": 1}}]}}')
    return "report.json"


def in_a_number_of_json(folder, eid):
    (folder / "dataset.json").write_text(f'{{"seed": [{int(eid):e}]}}')
    return "dataset.json"


def in_the_text_of_a_thumbnail(folder, eid):
    path = next(iter((folder / "thumbnails").iterdir()))
    text = PngInfo()
    text.add_text("Comment", f"{eid} " * 50, zip=True)
    Image.open(path).copy().save(path, pnginfo=text)
    return f"thumbnails/{path.name}: info"


def in_the_pixels_of_a_plot(folder, eid):
    pixels = np.frombuffer(struct.pack("<i", int(eid)) * 64, np.uint8).reshape(16, 16)
    Image.fromarray(pixels).save(folder / "phenotypes.png")
    return "phenotypes.png: pixels"


def in_the_metadata_of_a_shard(folder, eid):
    table = pyarrow.parquet.read_table(folder / SHARD)
    pyarrow.parquet.write_table(table.replace_schema_metadata({"plan": eid.encode("utf-16-le")}), folder / SHARD)
    return f"{SHARD}: metadata"


def in_a_column(name, value):
    def inject(folder, eid):
        rows = pyarrow.parquet.read_table(folder / SHARD).to_pylist()
        if name == "cine":  # where the stored differences do not show it
            cine = np.zeros((2, 8, 8), np.uint8)
            cine[1].flat[:4] = np.frombuffer(struct.pack("<i", int(eid)), np.uint8)
            cine[0].flat[:4] = 77
            rows[-1] = cine_row(Cine(pixels=cine, frame_time_ms=1.0, data_policy=""))
        elif name == "phenotypes":
            rows[-1][name][40] = value(eid)
        elif name == "preview":
            picture = Image.new("L", (8, 8))
            exif = picture.getexif()
            exif[0x010E] = value(eid)  # ImageDescription
            picture.save(folder.parent / "preview.png", exif=exif)
            rows[-1][name]["bytes"] = (folder.parent / "preview.png").read_bytes()
        else:
            rows[-1][name] = value(eid)
        write_shard(rows, folder / SHARD)
        return f"{SHARD}: {name}"

    inject.__name__ = f"in_the_column_{name}"
    return inject


INJECTIONS = [
    in_a_file_name,
    in_a_hidden_file,
    in_the_page,
    in_the_card,
    in_escaped_json,
    in_a_number_of_json,
    in_the_text_of_a_thumbnail,
    in_the_pixels_of_a_plot,
    in_the_metadata_of_a_shard,
    in_a_column("subject", lambda eid: f"ukb-{eid}"),
    in_a_column("seed", int),
    in_a_column("attempt", int),
    in_a_column("phenotypes", float),
    in_a_column("spacing_mm", float),
    in_a_column("preview", str),
    in_a_column("cine", None),
]


@pytest.mark.parametrize("inject", INJECTIONS, ids=lambda inject: inject.__name__)
def test_the_search_finds_an_identifier_wherever_it_is_put(biobank, prepared, tmp_path, inject):
    folder = tmp_path / "out"
    shutil.copytree(prepared[0], folder)
    eids = [one.eid for one in biobank[1]]
    place = inject(folder, eids[3])
    assert place in find_identifiers(eids, folder)


def test_the_search_finds_an_identifier_that_is_printed(biobank, tmp_path):
    eids = [one.eid for one in biobank[1]]
    assert find_identifiers(eids, tmp_path, "excluded 1", f"reading {eids[2]}_20208_2_0.zip") == ["printed"]
