"""Mutated zips: directory, local headers, names, sizes, methods, members; zips in zips; manifests; damaged images."""

import random
import struct
import warnings
import zipfile
from io import BytesIO

from .byte_mutations import damaged, odd_integer
from .dicom_mutations import mutated_file
from .table_mutations import mutated_csv

# Place and size of the fields of a zip's headers.
_DIRECTORY_FIELDS = [(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (34, 2), (38, 4), (42, 4)]
_LOCAL_FIELDS = [(4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)]
_END_FIELDS = [(4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)]
_ODD_NAMES = (
    *("../../evil.dcm", "/etc/evil", "C:\\evil", "a\nb.dcm", "", ".", "..", "folder/", "\x1b[2J", "\u202e", "é.dcm"),
    *("a" * 5000, "manifest.csv", "a/manifest.cvs", "x\0y.dcm", "CON", "a//b", "ä" * 400),
)
Member = tuple[str, bytes]


def packed(members: list[Member], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Members as a zip."""
    content = BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(content, "w", method, compresslevel=1) as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, data in members:
            info = zipfile.ZipInfo(name or "x")
            info.filename = name  # whatever it is
            archive.writestr(info, data, method)
    return content.getvalue()


def mutated_zip(members: list[Member], manifest: list[list[str]], draw: random.Random) -> bytes:
    """A zip of images and a manifest with one to three faults."""
    members = list(members)
    lines = "\n".join(",".join(row) for row in manifest).encode()
    method = zipfile.ZIP_DEFLATED if draw.random() < 0.9 else draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_LZMA])
    faults = [draw.random() for _ in range(draw.choice([1, 1, 2, 3]))]
    for kind in faults:
        if kind < 0.25:
            _member(members, draw)
        elif kind < 0.35:
            lines = mutated_csv(manifest, draw)
    content = packed([*members, ("manifest.csv", lines)], method)
    for kind in faults:
        if kind >= 0.35:
            content = _bytes(content, draw)
    return content


def _member(members: list[Member], draw: random.Random) -> None:
    place = draw.randrange(len(members))
    name, data = members[place]
    match draw.randrange(6):
        case 0:
            members[place] = (draw.choice(_ODD_NAMES), data)
        case 1:
            members[place] = (name, mutated_file(data, draw))
        case 2:
            fault = draw.getrandbits(64)
            members[:] = [(one, mutated_file(content, random.Random(fault))) for one, content in members]
        case 3:
            del members[place]
        case 4:
            members.append((draw.choice([name, "again.dcm", "inner.zip"]), draw.choice([data, packed(members)])))
        case _:
            members.append(("zeros.dcm", bytes(draw.choice([10, 10**6, 2 * 10**7]))))


def _bytes(content: bytes, draw: random.Random) -> bytes:
    directory = content.rfind(b"PK\x05\x06")
    kind = draw.random()
    if kind < 0.3:
        return _field(content, b"PK\x01\x02", _DIRECTORY_FIELDS, draw)
    if kind < 0.45:
        return _field(content, b"PK\x03\x04", _LOCAL_FIELDS, draw)
    if kind < 0.6:
        return _field(content, b"PK\x05\x06", _END_FIELDS, draw)
    if kind < 0.7:
        return draw.randbytes(draw.choice([1, 30, 3000])) + content
    if kind < 0.75:
        return content + draw.choice([b"x" * 70_000, content, b"PK\x05\x06" + bytes(18), b"\0"])
    if kind < 0.8:
        return content[: draw.randrange(len(content))]
    first = max(0, content.find(b"PK\x01\x02"))
    if kind < 0.9 and first < directory:
        return content[:first] + damaged(content[first:], draw, len(content) - first)
    return damaged(content, draw, len(content))


def _field(content: bytes, mark: bytes, fields: list[tuple[int, int]], draw: random.Random) -> bytes:
    """A field of one header of a kind, or of all of them."""
    places, place = [], content.find(mark)
    while place >= 0:
        places.append(place)
        place = content.find(mark, place + 4)
    if not places:
        return content
    offset, size = draw.choice(fields)
    value = draw.choice([odd_integer(draw, size), struct.pack("<I", draw.choice([12, 14, 93, 9, 99]))[:size]])
    changed = bytearray(content)
    for one in places if draw.random() < 0.3 else [draw.choice(places)]:
        if one + offset + size <= len(changed):
            changed[one + offset : one + offset + size] = value
    return bytes(changed)
