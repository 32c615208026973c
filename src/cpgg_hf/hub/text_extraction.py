"""Extracts all text and numbers from a file of any format, to be searched for identifiers before it is published.

Values come with their names (`eid: 1234567`).
"""

import csv
import gzip
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

_PRINTABLE = bytes(byte if 32 <= byte < 127 else 10 for byte in range(256))
_CHUNK = 1 << 24
_OVERLAP = 64


def extract_text(path: Path) -> Iterator[tuple[str, str]]:
    """(place, text) of everything in a file: JSON, CSV, parquet, safetensors, pictures, archives.

    Other files, and those that these readers cannot read, are read as bytes.
    """
    reader = _READERS.get(path.suffix.lower(), _bytes)
    try:
        yield from reader(path)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError):
        yield from _bytes(path)


def _json(path: Path) -> Iterator[tuple[str, str]]:
    yield from _labelled(json.loads(path.read_text(encoding="utf-8")), "")


def _json_lines(path: Path) -> Iterator[tuple[str, str]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield from ((f"line {number}", text) for _, text in _labelled(json.loads(line), ""))


def _labelled(content: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield f"{name}.{key}".lstrip("."), str(key)
            yield from _labelled(value, f"{name}.{key}".lstrip("."))
    elif isinstance(content, list):
        for value in content:
            yield from _labelled(value, name)
    elif isinstance(content, str | int | float) and not isinstance(content, bool):
        yield name, f"{name.rsplit('.', 1)[-1]}: {content}"


def _csv(path: Path) -> Iterator[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, restkey="beyond", delimiter="\t" if path.suffix == ".tsv" else ","):
            for name, value in row.items():
                yield f"column {name}", f"{name}: {value}"


def _parquet(path: Path) -> Iterator[tuple[str, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for key, value in (file.schema_arrow.metadata or {}).items():
            yield "metadata", f"{key.decode(errors='replace')}: {value.decode(errors='replace')}"
        columns = [field.name for field in file.schema_arrow if _may_contain_text(field.type, pa)]
        for batch in file.iter_batches(batch_size=256, columns=columns):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                values = column if pa.types.is_nested(column.type) else column.unique()
                for value in values.to_pylist():
                    if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):  # an encoded picture
                        yield f"column {name}", f"{name}: {value.get('path')}"
                        yield from ((f"column {name}", text) for _, text in _picture(value["bytes"]))
                    else:
                        yield from ((f"column {name}", text) for _, text in _labelled(value, name))


def _may_contain_text(column_type: Any, pa: Any) -> bool:
    """Whether a column may contain an identifier: not raw bytes, not vectors of floating-point numbers."""
    types = pa.types
    if any(is_list(column_type) for is_list in (types.is_list, types.is_large_list, types.is_fixed_size_list)):
        return not types.is_floating(column_type.value_type) and _may_contain_text(column_type.value_type, pa)
    binary = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
    return not any(is_binary(column_type) for is_binary in binary)


def _safetensors(path: Path) -> Iterator[tuple[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            yield from _labelled(dict(file.metadata() or {}), "metadata")
            yield from (("tensor names", name) for name in file.keys())  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file.") from error


def _picture(content: bytes) -> Iterator[tuple[str, str]]:
    """Comments, text chunks and EXIF of a picture, not its pixels."""
    import io

    import PIL.Image

    with PIL.Image.open(io.BytesIO(content)) as picture:
        entries: dict[Any, Any] = {**picture.info, **picture.getexif()}
        for key, value in entries.items():
            text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
            yield f"picture's {key}", f"{key}: {text}"


def _gzip(path: Path) -> Iterator[tuple[str, str]]:
    with gzip.open(path) as file:
        yield from _chunks(file.read)


def _zip(path: Path) -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield "name in the archive", name
            with archive.open(name) as member:
                yield from _chunks(member.read)


def _bytes(path: Path) -> Iterator[tuple[str, str]]:
    with path.open("rb") as file:
        yield from _chunks(file.read)


def _chunks(read: Callable[[int], bytes]) -> Iterator[tuple[str, str]]:
    """Printable characters of a stream, in overlapping chunks."""
    before = b""
    while chunk := read(_CHUNK):
        yield "content", (before + chunk).translate(_PRINTABLE).decode("ascii")
        before = chunk[-_OVERLAP:]


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, str]]]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".safetensors": _safetensors,
    **dict.fromkeys((".png", ".gif", ".webp", ".jpg", ".jpeg"), lambda path: _picture(path.read_bytes())),
    ".gz": _gzip,
    **dict.fromkeys((".zip", ".npz"), _zip),
}
