"""Series in a zip: the right pixels without a file on disk, and no zip that harms or ends in a traceback."""

import bz2
import struct
import zipfile

import numpy as np
import pytest
from dicom_files import SHORT_AXIS, write_dicom_series

from cpgg_hf.errors import InputError
from cpgg_hf.scans import safe_zip
from cpgg_hf.scans.safe_zip import members_of, open_zip, read_member
from cpgg_hf.scans.zip_series import list_series, read_zipped_series

CINE = np.random.default_rng(0).integers(1, 900, (10, 64, 66))


def pack(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def two_series(tmp_path_factory):
    """The files of a 4CH and a SAX cine, by name."""
    folder = tmp_path_factory.mktemp("series")
    paths = write_dicom_series(folder / "a", CINE, description="LAX_4Ch")
    paths += write_dicom_series(folder / "b", CINE[:8] + 50, description="SAX", orientation=SHORT_AXIS, prefix="sax")
    return [(path.name, path.read_bytes()) for path in paths]


def read_first(path):
    with open_zip(path) as archive:
        series, notes = list_series(archive)
        return read_zipped_series(archive, series[0]), series, notes


def test_series_are_distinguished_and_read_bit_by_bit(tmp_path, two_series):
    path = pack(tmp_path / "scan.zip", [*two_series, ("readme.txt", b"text"), ("folder/", b"")])
    cine, series, notes = read_first(path)
    assert {(one.description, len(one.members)) for one in series} == {("LAX_4Ch", 10), ("SAX", 8)}
    (four_chamber,) = [one for one in series if one.description == "LAX_4Ch"]
    with open_zip(path) as archive:
        cine = read_zipped_series(archive, four_chamber)
    assert np.array_equal(cine.pixels, CINE)
    assert np.abs(four_chamber.normal @ cine.normal) == pytest.approx(1)
    assert cine.origin == str(path)
    assert notes == ()
    assert [one.name for one in tmp_path.iterdir()] == ["scan.zip"]


def test_names_that_point_elsewhere_are_only_text(tmp_path, two_series):
    tricks = ["../../evil", "/etc/evil", "C:\\evil", "a/../../b\nc"]
    files = [(tricks[index % 4] + name, content) for index, (name, content) in enumerate(two_series[:10])]
    cine, _, _ = read_first(pack(tmp_path / "scan.zip", files))
    assert np.array_equal(cine.pixels, CINE)
    assert [one.name for one in tmp_path.iterdir()] == ["scan.zip"]
    cut_off = [(name, content[:-100] if "\n" in name else content) for name, content in files]
    with pytest.raises(InputError, match=r"a/\.\./\.\./b\?cimage\d+\.dcm is truncated"):
        read_first(pack(tmp_path / "scan.zip", cut_off))


def test_a_member_without_a_name_is_read_like_any_other(tmp_path, two_series):
    path = pack(tmp_path / "scan.zip", two_series[:10])
    content = bytearray(path.read_bytes())
    for header, length, name in ((b"PK\x03\x04", 26, 30), (b"PK\x01\x02", 28, 46)):
        place = content.index(header)
        (size,) = struct.unpack_from("<H", content, place + length)
        struct.pack_into("<HH", content, place + length, 0, size)  # the name becomes the extra field
        struct.pack_into("<HH", content, place + name, 0x7070, size - 4)
    path.write_bytes(content)
    with open_zip(path) as archive:
        assert "" in [info.filename for info in members_of(archive)]
    assert np.array_equal(read_first(path)[0].pixels, CINE)


def test_a_bomb_is_refused_by_what_it_declares(tmp_path, monkeypatch):
    with (
        pytest.raises(InputError, match=r"zeros\.dcm would unpack from \d+ to 3145728 bytes"),
        open_zip(pack(tmp_path / "ratio.zip", [("zeros.dcm", bytes(3 * 2**20))])),
    ):
        pass
    monkeypatch.setattr(safe_zip, "MOST_BYTES", 1000)
    monkeypatch.setattr(safe_zip, "MOST_MEMBERS", 3)
    for files in ([("a", bytes(600)), ("b", bytes(600))], [(str(index), b"x") for index in range(4)]):
        with (
            pytest.raises(InputError, match=r"would unpack to \d files"),
            open_zip(pack(tmp_path / "many.zip", files)),
        ):
            pass


def test_a_member_larger_than_it_declares_is_not_read_beyond(tmp_path):
    path = pack(tmp_path / "lie.zip", [("image.dcm", bytes(900_000))])
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    assert struct.unpack_from("<I", content, entry + 24) == (900_000,)
    struct.pack_into("<I", content, entry + 24, 1000)
    path.write_bytes(content)
    with open_zip(path) as archive, pytest.raises(InputError, match=r"image\.dcm is damaged \(Bad CRC-32"):
        read_member(archive, members_of(archive)[0])


def test_packings_that_cannot_be_read_in_parts_are_refused(tmp_path):
    assert len(bz2.compress(bytes(10**6))) < 100  # what a few bytes may hide
    for method, name in ((zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma")):
        path = pack(tmp_path / f"{name}.zip", [("image.dcm", b"x" * 50)], method)
        with pytest.raises(InputError, match=f"packed by {name}, expected deflate"), open_zip(path):
            pass


def test_encrypted_members_are_named(tmp_path):
    path = pack(tmp_path / "locked.zip", [("image.dcm", b"x" * 50)])
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"image\.dcm is encrypted; decrypt the zip"), open_zip(path):
        pass


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_zip_cut_off_is_refused(tmp_path, two_series, share):
    path = pack(tmp_path / "cut.zip", two_series)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"cut\.zip is not a zip, or truncated"), open_zip(path):
        pass
    with pytest.raises(InputError, match="does not exist"), open_zip(tmp_path / "absent.zip"):
        pass


def test_a_damaged_image_is_refused_where_it_belongs_to_the_cine_read(tmp_path, two_series):
    path = pack(tmp_path / "scan.zip", two_series, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    place = content.index(two_series[3][1])
    content[place + len(two_series[3][1]) - 20] ^= 0xFF  # in its pixels
    path.write_bytes(content)
    with open_zip(path) as archive:
        series, _ = list_series(archive)
        for one in series:
            if one.description == "SAX":
                assert np.array_equal(read_zipped_series(archive, one).pixels, CINE[:8] + 50)
            else:
                with pytest.raises(InputError, match=r"image021\.dcm is damaged \(Bad CRC-32"):
                    read_zipped_series(archive, one)


def test_files_without_a_readable_header_are_counted(tmp_path, two_series):
    files = [(name, content[:90] if index in (2, 5) else content) for index, (name, content) in enumerate(two_series)]
    _, series, notes = read_first(pack(tmp_path / "scan.zip", files))
    assert sorted(len(one.members) for one in series) == [8, 8]
    assert "2 damaged files were skipped" in notes[0]
