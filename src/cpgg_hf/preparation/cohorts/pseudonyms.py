"""Subjects' names in a data set: keyed pseudonyms, and the split that follows from them.

Both are HMAC-SHA256 of the subject's identifier under a secret key. Without the key subjects cannot be identified, not
even by trying every identifier; with the same key a subject keeps its name and its split, whatever is added. The key
lives in a file of its own, outside the data set: who shares the data set keeps the key.
"""

import hashlib
import hmac
import os
import re
import secrets
import tempfile
from pathlib import Path

from cpgg_hf.dataset import SPLITS
from cpgg_hf.errors import InputError, OutputError

SHARES = (0.8, 0.1, 0.1)  # of train, validation and test
_KEY_BYTES = 32
_PSEUDONYM_DIGITS = 24  # 96 bits: no two of a million subjects share a name


def read_key(key_file: str | os.PathLike[str], out: str | os.PathLike[str]) -> bytes:
    """The key of a file, created (mode 0600) if missing.

    Args:
        key_file: 64 hexadecimal digits in one line; outside `out`.
        out: the data set's folder, which the key must not lie in.

    Raises:
        InputError: the file lies inside `out`, cannot be read, or holds no key.
        OutputError: it does not exist and cannot be made.
    """
    path = Path(key_file)
    if path.resolve().is_relative_to(Path(out).resolve()):
        raise InputError(
            f"the key file {path} lies inside the data set's folder {out}, where it would be shared with the data; "
            "keep it somewhere else."
        )
    if not path.exists():
        _make_key(path)
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    if not re.fullmatch(f"[0-9a-f]{{{2 * _KEY_BYTES}}}", text):
        raise InputError(
            f"{path} holds no key ({2 * _KEY_BYTES} hexadecimal digits expected); restore it from a copy, or name a "
            "file that does not exist yet to get a new key, which gives every subject a new name and split."
        )
    return bytes.fromhex(text)


def _make_key(path: Path) -> None:
    """A new key, written atomically, readable only by its owner."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".key")  # mode 0600
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(path)
    except OSError as error:
        raise OutputError(f"the key file {path} cannot be written ({error.strerror}); choose another place.") from None


def pseudonym(identifier: str, key: bytes) -> str:
    """The subject's name in the data set: 24 hexadecimal digits that depend only on the identifier and the key."""
    return _keyed(b"subject", identifier, key).hex()[:_PSEUDONYM_DIGITS]


def split_of(identifier: str, key: bytes) -> str:
    """The subject's split; it depends only on the identifier and the key.

    Args:
        identifier: as the input names the subject.
        key: from `read_key`.
    """
    place = int.from_bytes(_keyed(b"split", identifier, key)[:8], "big") / 2**64
    if place < SHARES[0]:
        return SPLITS[0]
    return SPLITS[1] if place < SHARES[0] + SHARES[1] else SPLITS[2]


def fingerprint(key: bytes, content: str = "") -> str:
    """Fingerprint of a key, or of content under a key; reveals neither."""
    return _keyed(b"fingerprint", content, key).hex()[:16]


def _keyed(purpose: bytes, identifier: str, key: bytes) -> bytes:
    return hmac.new(key, purpose + b"\0" + identifier.encode("utf-8", "surrogateescape"), hashlib.sha256).digest()
