"""Participants' numbers are found wherever a file can hold them, and other numbers pass."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pandas as pd
import PIL.Image
import PIL.PngImagePlugin
import pyarrow
import pytest
import scipy.io
import torch
from safetensors.torch import save_file

from cpgg_hf.cine import Cine
from cpgg_hf.dataset import CineWriter, write_description
from cpgg_hf.errors import InputError, PolicyError
from cpgg_hf.hub.identifiers import check_identifiers, find_identifiers
from cpgg_hf.hub.push import push_folder
from cpgg_hf.preparation.cohorts.participants import participants
from cpgg_hf.preparation.cohorts.pseudonyms import pseudonym, read_key

EID = "4215736"


def _picture(path, text):
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("Comment", text)
    PIL.Image.new("L", (4, 4)).save(path, pnginfo=info)


def _in_parquet_picture(path, text):
    _picture(path.with_suffix(".png"), text)
    content = path.with_suffix(".png").read_bytes()
    path.with_suffix(".png").unlink()
    pd.DataFrame({"preview": [{"bytes": content, "path": None}]}).to_parquet(path)


def _zipped(path, text):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("notes.txt", text)


def _zip_of(path, name, content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue() if path is None else path.write_bytes(buffer.getvalue())


def _tar_of(path, name, content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue() if path is None else path.write_bytes(buffer.getvalue())


def _npy(text):
    buffer = io.BytesIO()
    np.save(buffer, np.array([1, int(text)]))
    return buffer.getvalue()


def _late_text(path, text):
    """A compressed text chunk after the pixels."""
    PIL.Image.new("L", (4, 4)).save(path)
    content, chunk = path.read_bytes(), b"zTXtComment\0\0" + zlib.compress(text.encode())
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(content[:-12] + chunk + content[-12:])


def _book(path, column, text):
    """A workbook as Excel writes it: text lies apart from the cells."""
    cells = f'<row r="1"><c r="A1" t="s"><v>0</v></c></row><row r="2"><c r="A2"><v>{text}</v></c></row>'
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", f"<sst><si><t>{column}</t></si></sst>")
        archive.writestr("xl/worksheets/sheet1.xml", f"<worksheet><sheetData>{cells}</sheetData></worksheet>")


WRITERS = {
    "model.safetensors": lambda path, text: save_file({"w": torch.zeros(2)}, path, metadata={"source": text}),
    "other.safetensors": lambda path, text: save_file({f"table.{text}": torch.zeros(2)}, path),
    "config.json": lambda path, text: path.write_text(json.dumps({"a": [{"b": text}]})),
    "keys.json": lambda path, text: path.write_text(json.dumps({text: 1})),
    "log.jsonl": lambda path, text: path.write_text('{"step": 1}\n' + json.dumps({"sample": text}) + "\n"),
    "text.parquet": lambda path, text: pd.DataFrame({"subject": ["a", text]}).to_parquet(path),
    "numbers.parquet": lambda path, text: pd.DataFrame({"who": [1, int(text)]}).to_parquet(path),
    "floats.parquet": lambda path, text: pd.DataFrame({"who": [np.nan, float(text)]}).to_parquet(path),
    "lists.parquet": lambda path, text: pd.DataFrame({"who": [[text], []]}).to_parquet(path),
    "pictures.parquet": _in_parquet_picture,
    "sheet.png": _picture,
    "report.html": lambda path, text: path.write_text(f"<td>{text}</td>"),
    "README.md": lambda path, text: path.write_text(f"# Trained without {text}, who withdrew\n"),
    "table.csv": lambda path, text: path.write_text(f"id,LVEF\n{text},60\n"),
    "cine.nii.gz": lambda path, text: path.write_bytes(gzip.compress(b"\0" * 300 + text.encode() + b"\0" * 300)),
    "cine.npz": _zipped,
    "image.dcm": lambda path, text: path.write_bytes(b"\0" * 128 + b"DICM\x10\0\x20\0LO" + text.encode() + b"\0"),
    "book.xlsx": lambda path, text: _book(path, "someone", text),
    "nested.zip": lambda path, text: _zip_of(path, "inner.zip", _zip_of(None, "notes.txt", text.encode())),
    "old.tar": lambda path, text: _tar_of(path, "scan/notes.txt", text.encode()),
    "old.tar.gz": lambda path, text: path.write_bytes(gzip.compress(_tar_of(None, "numbers.npy", _npy(text)))),
    "notes.txt.xz": lambda path, text: path.write_bytes(lzma.compress(text.encode())),
    "notes.bz2": lambda path, text: path.write_bytes(bz2.compress(text.encode())),
    "table.zst": lambda path, text: path.write_bytes(pyarrow.compress(text.encode(), "zstd", asbytes=True)),
    "no_ending": lambda path, text: path.write_bytes(lzma.compress(text.encode())),
    "wide.csv": lambda path, text: path.write_text(f"id,LVEF\n{text},60\n", encoding="utf-16"),
    "wide.txt": lambda path, text: path.write_bytes(b"\1\2\3" + f"from {text}".encode("utf-16-be")),
    "late.png": lambda path, text: _late_text(path, text),
    "appended.jpg": lambda path, text: (PIL.Image.new("L", (4, 4)).save(path), path.open("ab").write(text.encode())),
    "numbers.npy": lambda path, text: path.write_bytes(_npy(text)),
    "numbers.npz": lambda path, text: np.savez_compressed(path, who=np.array([3.0, float(text)])),
    "numbers.safetensors": lambda path, text: save_file({"who": torch.tensor([1, int(text)])}, path),
    "numbers.mat": lambda path, text: scipy.io.savemat(path, {"who": [1, int(text)]}, do_compression=True),
    "numbers.pkl": lambda path, text: path.write_bytes(pickle.dumps({"who": [1, int(text)]})),
    "table.dta": lambda path, text: pd.DataFrame({"who": [1, int(text)]}).to_stata(path),
    "numbers.arrow": lambda path, text: pd.DataFrame({"who": [1, int(text)]}).to_feather(path),
    "names.parquet": lambda path, text: pd.DataFrame({f"f.{text}": [1]}).to_parquet(path),
    "bytes.parquet": lambda path, text: pd.DataFrame({"raw": [b"\0" + text.encode()]}).to_parquet(path),
    "vectors.parquet": lambda path, text: pd.DataFrame({"who": [[0.5, float(text)]]}).to_parquet(path),
    "broken.csv": lambda path, text: path.write_bytes(b'a,b\n"\xff\0' + text.encode()),
    "deep.json": lambda path, text: path.write_text("[" * 100_000 + text),
    "broken.json": lambda path, text: path.write_text(f"{{{text}"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_participant_is_found_in_every_kind_of_file(tmp_path, name):
    WRITERS[name](tmp_path / name, EID)
    assert [path for path, _ in find_identifiers(tmp_path, EID.__eq__)] == [name]
    assert list(find_identifiers(tmp_path, "1111111".__eq__)) == []


def test_names_of_files_count_and_the_message_repeats_no_number(tmp_path):
    (tmp_path / f"sub-{EID}").mkdir()
    (tmp_path / f"sub-{EID}" / "cine.gif").write_bytes(b"")
    with pytest.raises(PolicyError, match=r"participants in sub-#######/cine\.gif \(file name\)") as raised:
        check_identifiers(tmp_path, EID.__eq__)
    assert EID not in str(raised.value).replace(str(tmp_path), "")


def test_without_the_key_what_is_called_an_eid_is_found(tmp_path):
    (tmp_path / "fine.json").write_text(json.dumps({"steps": 4215736, "bytes": 1048576}))
    assert list(find_identifiers(tmp_path)) == []
    (tmp_path / "a.json").write_text(json.dumps({"eid": 4215736}))
    (tmp_path / "b.csv").write_text("f.eid,LVEF\n4215736,60\n")
    (tmp_path / "c.txt").write_text("read from 4215736_20208_2_0.zip")
    pd.DataFrame({"eid": [4215736.0]}).to_parquet(tmp_path / "d.parquet")
    (tmp_path / "e.csv").write_text("n_eid;n_31_0_0\n4215736;1\n")
    (tmp_path / "f.tab").write_text("f.31.0.0\tf.eid\n1\t4215736\n")
    (tmp_path / "g.csv").write_text('"Participant ID","Sex"\n4215736,1\n')
    (tmp_path / "h.csv").write_text("sex,eid_26041\n1,4215736\n", encoding="utf-16")
    (tmp_path / "i.txt").write_text("see eid_4215736.zip")
    pd.DataFrame({"n_eid": [4215736]}).to_stata(tmp_path / "j.dta")
    _book(tmp_path / "k.xlsx", "eid", EID)
    (tmp_path / "eid4215736.gif").write_bytes(b"")
    assert [place for place, _ in find_identifiers(tmp_path)] == [
        *("a.json", "b.csv", "c.txt", "d.parquet", "e.csv", "eid#######.gif", "f.tab", "g.csv", "h.csv", "i.txt"),
        *("j.dta", "k.xlsx"),
    ]


def _encrypted():
    content = bytearray(_zip_of(None, "notes.txt", b"hello"))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1
    return bytes(content)


def _matryoshka(depth):
    content = b"hello"
    for _ in range(depth):
        content = gzip.compress(content)
    return content


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(_encrypted(), id="encrypted zip"),
        pytest.param(gzip.compress(b"hello" * 999)[:-9], id="gzip cut off"),
        pytest.param(_zip_of(None, "a", b"hello")[:-9], id="zip cut off"),
        pytest.param(lzma.compress(b"hello" * 999)[:-40], id="xz cut off"),
        pytest.param(b"7z\xbc\xaf\x27\x1c\0\4", id="7z"),
        pytest.param(b"Rar!\x1a\7\1\0", id="rar"),
        pytest.param(_matryoshka(40), id="nested"),
    ],
)
def test_archives_that_cannot_be_searched_are_refused(tmp_path, content):
    (tmp_path / "archive.dat").write_bytes(content)
    with pytest.raises(PolicyError, match=r"archive\.dat cannot be searched for identifiers: .*unpack it first"):
        check_identifiers(tmp_path)


def test_digits_of_other_numbers_are_no_participant(tmp_path):
    digest = "a1" + EID + "f0c2e4"
    text = f"0.{EID} 1{EID} {EID}9 sha {digest} pseudonym 00aa{EID}bb00cc{EID}dd"
    (tmp_path / "README.md").write_text(text)
    (tmp_path / "config.json").write_text(json.dumps({"mean": float(f"0.{EID}")}))
    assert list(find_identifiers(tmp_path, EID.__eq__)) == []


@pytest.fixture
def cohort(tmp_path):
    """A data set of one subject with a keyed pseudonym, and one excluded subject."""
    folder, key_file = tmp_path / "cohort", tmp_path / "key"
    key = read_key(key_file, folder)
    with CineWriter(folder, "train") as writer:
        pixels, subject = np.zeros((2, 3, 4), np.uint8), pseudonym(EID, key)
        writer.add(Cine(pixels=pixels, frame_time_ms=20.0, subject=subject, source="ukb", data_policy="restricted"))
    write_description(folder, data_policy="restricted")
    aside = {"subject": pseudonym("5000001", key), "reason": "another view"}
    (folder / "report.json").write_text(json.dumps({"subjects": [aside]}))
    return folder, key_file


def test_the_key_file_tells_the_cohorts_participants(cohort, tmp_path):
    folder, key_file = cohort
    is_participant = participants(key_file, [folder])
    assert [is_participant(number) for number in (EID, "5000001", "1234567")] == [True, True, False]
    assert list(find_identifiers(folder, is_participant)) == [], "pseudonyms are no identifiers"
    with pytest.raises(InputError, match="there is no key file"):
        participants(tmp_path / "absent", [folder])
    with pytest.raises(InputError, match="holds no cine data set"):
        participants(key_file, [tmp_path / "absent"])
    with pytest.raises(InputError, match="no subjects found in the cohorts"):
        participants(key_file, [])


def test_nothing_that_names_a_participant_is_pushed(hub, cohort, network):
    folder, key_file = cohort
    trained = network(data_policy="phantom")
    (trained / "log.jsonl").write_text(json.dumps({"samples": [int(EID)]}) + "\n")
    before = len(hub.httpd.log)
    with pytest.raises(PolicyError, match=r"log\.jsonl"):
        push_folder(trained, "user/leak", is_participant=participants(key_file, [folder]))
    assert hub.httpd.log[before:] == []
