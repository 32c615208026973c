"""Where identifiers stand in what is meant to leave: every file as it lies on disk, and as its readers unpack it."""

import html
import io
import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet
from PIL import Image

from cpgg_hf.dataset import decode_cine


def find_identifiers(identifiers: Iterable[str], folder: Path, *printed: str) -> list[str]:
    """The places in a folder, and in what was printed, that hold one of the identifiers (digits), each once.

    An identifier is looked for as text (UTF-8, UTF-16), as a whole number of 4 or 8 bytes, as a float, and in columns
    of numbers as their value.
    """
    wanted = [int(identifier) for identifier in identifiers]
    patterns = [pattern for number in wanted for pattern in _patterns(number)]
    found = []
    for place, value in _everything(folder, printed):
        known = any(one in value for one in patterns) if isinstance(value, bytes) else value in wanted
        if known and place not in found:
            found.append(place)
    return found


def _patterns(number: int) -> Iterator[bytes]:
    yield str(number).encode()
    yield str(number).encode("utf-16-le")
    yield struct.pack("<i", number)  # the first half of the same number in eight bytes, too
    yield struct.pack("<d", number)


def _everything(folder: Path, printed: Iterable[str]) -> Iterator[tuple[str, bytes | float]]:
    """Places and what stands there: bytes, or numbers."""
    for text in printed:
        yield "printed", text.encode()
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        yield f"name of {name}", name.encode()
        if path.is_dir():
            continue
        yield name, path.read_bytes()
        match path.suffix:
            case ".parquet":
                yield from _parquet(path, name)
            case ".json":
                yield from _values(json.loads(path.read_text()), name)
            case ".html" | ".md":
                yield name, html.unescape(path.read_text()).encode()
            case ".png":
                yield from _picture(path, name)


def _parquet(path: Path, name: str) -> Iterator[tuple[str, bytes | float]]:
    file = pyarrow.parquet.ParquetFile(path)
    table = file.read()
    yield from _values(file.metadata.metadata, f"{name}: metadata")
    yield from _values(table.schema.metadata, f"{name}: metadata")
    for field in table.schema:
        yield f"{name}: schema", f"{field.name} {field.metadata}".encode()
    for row in table.to_pylist():
        for column, value in row.items():
            yield from _values(value, f"{name}: {column}")
        yield f"{name}: cine", decode_cine(row).tobytes()
        yield from _picture(io.BytesIO(row["preview"]["bytes"]), f"{name}: preview")


def _values(value: object, place: str) -> Iterator[tuple[str, bytes | float]]:
    """Everything within nested lists and objects, keys included."""
    match value:
        case dict():
            for key, inner in value.items():
                yield from _values(key, place)
                yield from _values(inner, place)
        case list():
            for inner in value:
                yield from _values(inner, place)
        case str():
            yield place, value.encode()
        case bytes() | int() | float():
            yield place, value


def _picture(file: Path | io.BytesIO, name: str) -> Iterator[tuple[str, bytes | float]]:
    """Pixels, and what is written beside them (text chunks are compressed in the file)."""
    with Image.open(file) as picture:
        picture.load()
        yield f"{name}: pixels", picture.tobytes()
        for key, value in picture.info.items():
            yield f"{name}: info", f"{key} {value}".encode()
        yield f"{name}: info", repr(dict(picture.getexif())).encode()
