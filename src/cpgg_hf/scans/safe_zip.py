"""Read members of an untrusted zip into memory one at a time; nothing is unpacked to disk.

So a member's name is only text, whatever path it spells. The sizes that the directory declares are limited, and no
member is read beyond its declared size (`zipfile` stops there, and the checksum fails if there was more). Only
"stored" and "deflated" members are read, because only these can be inflated in parts.
"""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cpgg_hf.errors import InputError, brief, printable

MOST_MEMBERS = 20_000
MOST_BYTES_OF_A_MEMBER = 64 * 2**20
MOST_BYTES = 2 * 2**30
HIGHEST_RATIO = 200  # images shrink to a half or a quarter, blank ones to a hundredth
_RATIO_FROM = 2**20  # bytes; smaller members are harmless
_ENCRYPTED = 0x1
_OTHER_PACKINGS = {9: "deflate64", zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "lzma"}


@contextmanager
def open_zip(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """Open an archive and check its directory, for `members_of`, `open_member` and `read_member`.

    Raises:
        InputError: not a zip, truncated, damaged, encrypted, packed in another way than deflate, or too large.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; give a zip.")
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # a damaged directory raises many kinds
        raise InputError(f"{path} is not a zip, or truncated ({brief(error)}); copy it again.") from None
    with archive:
        _check_directory(archive, path)
        yield archive


def members_of(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The archive's files, in the order of their names."""
    infos = (info for info in archive.infolist() if not info.filename.endswith("/"))  # `is_dir` needs a name
    return sorted(infos, key=lambda info: info.filename)


def base_name(info: zipfile.ZipInfo) -> str:
    """A member's name without folders."""
    return info.filename.replace("\\", "/").rsplit("/", 1)[-1]


def name_of(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    """A member's name in messages: the archive and the member on one line."""
    return f"{archive.filename}/{printable(info.filename[:200])}"


@contextmanager
def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
    """Open a member as a stream that ends at its declared size.

    Raises:
        InputError: the part of the member that is read is damaged.
    """
    try:
        with archive.open(info) as stream:
            yield stream
    except InputError:
        raise
    except Exception as error:  # damaged members raise many kinds
        raise InputError(f"{name_of(archive, info)} is damaged ({brief(error)}); copy the zip again.") from None


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member's content, its checksum verified.

    Raises:
        InputError: the member is damaged.
    """
    with open_member(archive, info) as stream:
        return stream.read()


def _check_directory(archive: zipfile.ZipFile, path: Path) -> None:
    infos = archive.infolist()
    total = sum(info.file_size for info in infos)
    if len(infos) > MOST_MEMBERS or total > MOST_BYTES:
        raise InputError(
            f"{path} would unpack to {len(infos)} files of {total / 2**20:.0f} MB, expected at most {MOST_MEMBERS} of "
            f"{MOST_BYTES / 2**20:.0f} MB; give the zip of one examination."
        )
    for info in infos:
        if info.flag_bits & _ENCRYPTED:
            raise InputError(f"{name_of(archive, info)} is encrypted; decrypt the zip first.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            kind = _OTHER_PACKINGS.get(info.compress_type, f"method {info.compress_type}")
            raise InputError(f"{name_of(archive, info)} is packed by {kind}, expected deflate; pack the zip again.")
        shrunk = info.file_size / max(info.compress_size, 1)
        if info.file_size > MOST_BYTES_OF_A_MEMBER or (info.file_size > _RATIO_FROM and shrunk > HIGHEST_RATIO):
            raise InputError(
                f"{name_of(archive, info)} would unpack from {info.compress_size} to {info.file_size} bytes, expected "
                f"an image of at most {MOST_BYTES_OF_A_MEMBER / 2**20:.0f} MB; the zip is damaged, or malicious."
            )
