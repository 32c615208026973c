"""Extracts all text and numbers from a file of any format, to be searched for identifiers before it is published.

Values come with their names (`eid: 1234567`). Read by structure, also inside each other: JSON, tables (CSV, Excel,
Stata, SAS), parquet and Arrow, NumPy, MATLAB 5, safetensors, pickles (which are not run), pictures, and archives
(zip, tar, gzip, bzip2, xz, zstd, lz4). All else is searched as text in ASCII, UTF-8 and UTF-16. Not found are numbers
in binary formats without a reader here (HDF5, R, SQLite, pixels of DICOM and NIfTI), compressed or encrypted content
within other formats (PDF), numbers drawn in pictures, and the encoded cines of a data set.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import pickletools
import re
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import PIL.Image

from cpgg_hf.errors import InputError, brief

Found = Iterator[tuple[str, str]]
Reader = Callable[[IO[bytes], str, int], Found]

_PRINTABLE = bytes(byte if 32 <= byte < 127 else 10 for byte in range(256))
_UTF16 = re.compile(rb"(?:[\x20-\x7e]\0|\0[\x20-\x7e]){7,}")
_CHUNK, _OVERLAP = 1 << 24, 128
_DEEPEST = 8  # archives in archives
_IN_MEMORY = 1 << 26
_UNREADABLE = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "rar"}
_DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U64": "<u8", "U32": "<u4"}


def extract_text(path: Path) -> Found:
    """(place, text) of everything in a file.

    Raises:
        InputError: an archive that cannot be read: damaged, encrypted, of an unknown kind, or nested too deeply.
    """
    with path.open("rb") as file:
        yield from _content(file, path.name, 0)


def _content(file: IO[bytes], name: str, depth: int) -> Found:
    """Everything in a seekable stream, whose format its first bytes and its name tell."""
    head = file.read(8)
    file.seek(0)
    for magic, kind in _UNREADABLE.items():
        if head.startswith(magic):
            raise InputError(f"{name} is a {kind} archive, which cannot be searched; unpack it first")
    archive = next((reader for magic, reader in _ARCHIVES.items() if head.startswith(magic)), None)
    if archive is None and _is_tar(file):
        archive = _tar
    if archive is not None:
        if depth == _DEEPEST:
            raise InputError(f"{name} lies in {_DEEPEST} archives, one within the other; unpack it first")
        try:
            yield from archive(file, name, depth + 1)
        except (OSError, EOFError, RuntimeError, ValueError, zlib.error, lzma.LZMAError, *_ARCHIVE_ERRORS) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the archive {name} cannot be read ({brief(error)}); unpack it first") from error
        return
    reader = _READERS.get(Path(name).suffix.lower())
    if reader is not None:
        try:
            yield from reader(file, name, depth)
        except InputError:
            raise
        except Exception:  # any error of the format's library: damaged or foreign, so it is read as bytes
            file.seek(0)
            reader = None
    if reader in (None, _picture, _table):  # may have comments around the table, or data after the picture
        file.seek(0)
        yield from _bytes(file, name, depth)


def _member(stream: IO[bytes], name: str, depth: int) -> Found:
    """A file in an archive."""
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as copy:
        while chunk := stream.read(_CHUNK):
            copy.write(chunk)
        copy.seek(0)
        for place, text in _content(copy, name, depth):
            yield f"{name}: {place}", text


def _zip(file: IO[bytes], name: str, depth: int) -> Found:  # noqa: ARG001
    with zipfile.ZipFile(file) as archive:
        yield "comment", archive.comment.decode("latin-1")
        yield from _workbook(archive)
        for entry in archive.infolist():
            yield "name in the archive", entry.filename
            with archive.open(entry) as member:
                yield from _member(member, entry.filename, depth)


def _tar(file: IO[bytes], name: str, depth: int) -> Found:  # noqa: ARG001
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for entry in archive:
            yield "name in the archive", f"{entry.name} {entry.linkname} {entry.uname}"
            if (member := archive.extractfile(entry) if entry.isfile() else None) is not None:
                yield from _member(member, entry.name, depth)


def _is_tar(file: IO[bytes]) -> bool:
    file.seek(257)
    magic = file.read(5)
    file.seek(0)
    return magic == b"ustar"


def _compressed(opened: Callable[[IO[bytes]], Any]) -> Reader:
    def read(file: IO[bytes], name: str, depth: int) -> Found:
        with opened(file) as stream:
            inner = Path(name).stem if Path(name).suffix.lower() != ".tgz" else f"{Path(name).stem}.tar"
            yield from _member(stream, inner, depth)

    return read


def _arrow_stream(codec: str) -> Callable[[IO[bytes]], Any]:
    def opened(file: IO[bytes]) -> Any:
        import pyarrow as pa

        return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), codec)

    return opened


def _workbook(archive: zipfile.ZipFile) -> Found:
    """The cells of an Excel file with the names of their columns; nothing for other zip files."""
    names = archive.namelist()
    shared: list[str] = []
    if "xl/sharedStrings.xml" in names:
        text = archive.read("xl/sharedStrings.xml").decode("utf-8", errors="replace")
        shared = [re.sub(r"<[^>]*>", "", entry) for entry in re.findall(r"<si>(.*?)</si>", text, re.DOTALL)]
    for name in names:
        if not re.fullmatch(r"xl/worksheets/[^/]+\.xml", name):
            continue
        text = archive.read(name).decode("utf-8", errors="replace")
        columns: dict[str, str] = {}
        for column, attributes, content in re.findall(r'<c r="([A-Z]+)\d+"([^>]*)>(.*?)</c>', text, re.DOTALL):
            value = re.sub(r"<[^>]*>", "", content)
            if 't="s"' in attributes:
                value = shared[int(value)]
            yield f"{name}, column {column}", f"{columns.setdefault(column, value)}: {value}"


def _json(file: IO[bytes], name: str, depth: int) -> Found:  # noqa: ARG001 - all readers have these arguments
    yield from _labelled(json.loads(file.read().decode("utf-8")), "")


def _json_lines(file: IO[bytes], name: str, depth: int) -> Found:  # noqa: ARG001
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield from ((f"line {number}", text) for _, text in _labelled(json.loads(line), ""))


def _labelled(content: Any, name: str) -> Found:
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield f"{name}.{key}".lstrip("."), str(key)
            yield from _labelled(value, f"{name}.{key}".lstrip("."))
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _labelled(value, name)
    elif isinstance(content, str | int | float | np.number) and not isinstance(content, bool):
        yield name, f"{name.rsplit('.', 1)[-1]}: {content}"


def _table(file: IO[bytes], name: str, depth: int) -> Found:  # noqa: ARG001
    utf16 = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
    file.seek(0)
    lines = io.TextIOWrapper(file, encoding="utf-16" if utf16 else "utf-8-sig", newline="")
    try:
        header = lines.readline()
        lines.seek(0)
        delimiter = max("\t;,", key=header.count)
        for row in csv.DictReader(lines, restkey="beyond", delimiter=delimiter if delimiter in header else " "):
            for column, value in row.items():
                yield f"column {column}", f"{column}: {value}"
    finally:
        lines.detach()


def _frames(reader: str, **options: Any) -> Reader:
    """Tables that pandas reads in parts."""

    def read(file: IO[bytes], name: str, depth: int) -> Found:  # noqa: ARG001
        import pandas as pd

        with getattr(pd, reader)(io.BytesIO(file.read()), chunksize=10_000, **options) as parts:
            for part in parts:
                for column in part:
                    for value in part[column].dropna().unique().tolist():
                        yield f"column {column}", f"{column}: {value}"

    return read


def _parquet(file: IO[bytes], name: str, depth: int) -> Found:  # noqa: ARG001
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as parquet:
        columns = [field.name for field in parquet.schema_arrow if field.name != "cine"]
        yield from _arrow(parquet.schema_arrow, parquet.iter_batches(batch_size=256, columns=columns), depth)


def _arrow_file(file: IO[bytes], name: str, depth: int) -> Found:  # noqa: ARG001
    import pyarrow as pa

    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    with pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file) as reader:
        parts = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else reader
        yield from _arrow(reader.schema, parts, depth)


def _arrow(schema: Any, batches: Iterable[Any], depth: int) -> Found:
    import pyarrow as pa

    for key, value in (schema.metadata or {}).items():
        yield "metadata", f"{key.decode(errors='replace')}: {value.decode(errors='replace')}"
    yield from (("column names", column) for column in schema.names)
    for batch in batches:
        for column, values in zip(batch.schema.names, batch.columns, strict=True):
            yield from ((f"column {column}", text) for text in _arrow_values(column, values, pa, depth))


def _arrow_values(name: str, values: Any, pa: Any, depth: int) -> Iterator[str]:
    types, kind = pa.types, values.type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        yield from _arrow_values(name, values.flatten(), pa, depth)
    elif types.is_struct(kind):
        for field, part in zip(kind, values.flatten(), strict=True):
            yield from _arrow_values(field.name if field.name != "bytes" else name, part, pa, depth)
    elif types.is_integer(kind) or types.is_floating(kind):
        yield from (text for _, text in _numbers(values.drop_null().to_numpy(zero_copy_only=False), name))
    elif types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        for value in filter(None, values.to_pylist()):
            suffix = ".png" if value[:4] in (b"\x89PNG", b"RIFF", b"GIF8", b"\xff\xd8\xff\xe0") else ""
            yield from (text for _, text in _content(io.BytesIO(value), name + suffix, depth))
    elif not types.is_nested(kind):
        yield from (f"{name}: {value}" for value in values.unique().to_pylist())
    else:
        yield from (text for _, text in _labelled(values.to_pylist(), name))


def _numbers(array: np.ndarray, name: str) -> Found:
    """The distinct whole numbers of 7 digits in an array of any type; text in arrays of text."""
    array = np.asarray(array).reshape(-1)
    if array.dtype.names is not None:
        for field in array.dtype.names:
            yield name, field
            yield from _numbers(array[field], field)
    elif array.dtype.kind in "iuf" and array.dtype.itemsize > 2:  # smaller types have no such numbers
        chosen = array[(array >= 1_000_000) & (array < 10_000_000)]
        for value in np.unique(chosen[chosen == np.floor(chosen)]):
            yield name, f"{name}: {int(value)}"
    elif array.dtype.kind in "USO":
        for value in array.tolist():
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            yield from _numbers(value, name) if isinstance(value, np.ndarray) else _labelled(text, name)


def _npy(file: IO[bytes], name: str, depth: int) -> Found:  # noqa: ARG001
    yield from _numbers(np.load(file, allow_pickle=False), Path(name).stem)


def _matlab(file: IO[bytes], name: str, depth: int) -> Found:  # noqa: ARG001
    from scipy.io import loadmat

    for variable, values in loadmat(file, chars_as_strings=True).items():
        yield "variables", variable
        yield from _numbers(values, variable) if isinstance(values, np.ndarray) else _labelled(values, variable)


def _safetensors(file: IO[bytes], name: str, depth: int) -> Found:  # noqa: ARG001
    (length,) = struct.unpack("<Q", file.read(8))
    tensors = json.loads(file.read(length))
    yield from _labelled(tensors.pop("__metadata__", {}), "metadata")
    for tensor, entry in tensors.items():
        yield "tensor names", tensor
        if entry["dtype"] in _DTYPES:
            first, last = entry["data_offsets"]
            file.seek(8 + length + first)
            yield from _numbers(np.frombuffer(file.read(last - first), _DTYPES[entry["dtype"]]), tensor)


def _pickle(file: IO[bytes], name: str, depth: int) -> Found:  # noqa: ARG001
    """Text and numbers of a pickle, which is read and not run; each with the text before it, such as its key."""
    before = ""
    for _, argument, _ in pickletools.genops(file):
        if isinstance(argument, bytes):
            argument = argument.decode("latin-1")
        if isinstance(argument, str | int | float):
            yield "content", f"{before}: {argument}"
        if isinstance(argument, str):
            before = argument


def _picture(file: IO[bytes], name: str, depth: int) -> Found:  # noqa: ARG001
    """Comments, text chunks and EXIF of a picture, before and after its pixels."""
    with PIL.Image.open(file) as picture:
        picture.load()
        entries: dict[Any, Any] = {**picture.info, **getattr(picture, "text", {}), **picture.getexif()}
        for key, value in entries.items():
            text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
            yield f"picture's {key}", f"{key}: {text}"


def _bytes(file: IO[bytes], name: str, depth: int) -> Found:  # noqa: ARG001
    """Printable characters of a stream, in overlapping chunks."""
    before = b""
    while chunk := file.read(_CHUNK):
        joined = before + chunk
        yield "content", joined.translate(_PRINTABLE).decode("ascii")
        if wide := b"\n".join(match.replace(b"\0", b"") for match in _UTF16.findall(joined)):
            yield "content", wide.decode("ascii")
        before = chunk[-_OVERLAP:]


_ARCHIVE_ERRORS = (zipfile.BadZipFile, tarfile.TarError, NotImplementedError)
_ARCHIVES: dict[bytes, Reader] = {
    b"PK\x03\x04": _zip,
    b"PK\x05\x06": _zip,
    b"\x1f\x8b": _compressed(gzip.open),
    b"BZh": _compressed(bz2.open),
    b"\xfd7zXZ\0": _compressed(lzma.open),
    b"\x28\xb5\x2f\xfd": _compressed(_arrow_stream("zstd")),
    b"\x04\x22\x4d\x18": _compressed(_arrow_stream("lz4")),
}
_READERS: dict[str, Reader] = {
    ".json": _json,
    ".jsonl": _json_lines,
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt"), _table),
    ".dta": _frames("read_stata", convert_categoricals=False, convert_dates=False),
    ".sas7bdat": _frames("read_sas", format="sas7bdat"),
    ".parquet": _parquet,
    **dict.fromkeys((".arrow", ".feather"), _arrow_file),
    ".safetensors": _safetensors,
    ".npy": _npy,
    ".mat": _matlab,
    **dict.fromkeys((".pkl", ".pickle"), _pickle),
    **dict.fromkeys((".png", ".gif", ".webp", ".jpg", ".jpeg", ".tif", ".tiff"), _picture),
}
