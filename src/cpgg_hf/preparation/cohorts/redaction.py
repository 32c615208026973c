"""Removes identifying parts from messages: paths, file names, identifiers, quoted values, UIDs.

Readers name files and values; reports are shared with the data set, so these are removed. Where nothing else stood in
brackets or a list, the words around it are removed too.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from cpgg_hf.errors import printable
from cpgg_hf.preparation.layouts.subject import Subject
from cpgg_hf.scans.files import paths_below

_IDENTIFYING = (
    (r"(?<!\w)'[^']*'(?!\w)|(?<!\w)\"[^\"]*\"(?!\w)", "'...'"),  # values of tags, as readers quote them
    (r"[^\s'\"(),;]*[/\\][^\s'\"(),:;]*", "a file"),
    (r"(?<![^\s'\"(),;])[^\s'\"(),;.][^\s'\"(),;]*\.(?:dcm|ima|dicom|nii|gz|zip|csv|json)\b", "a file"),
    (r"\d+(?:\.\d+){4,}", "a UID"),
    (r"\d{6,}", "a number"),
)
_REMOVED = r"(?:the input|a file|a UID|a number|'\.\.\.')"  # placeholders
_LIST = rf"{_REMOVED}(?:(?:, | and ){_REMOVED})*"
_SEVERAL = {"the input": "several files", "a file": "several files", "a UID": "several UIDs", "a number": "numbers"}
_READABLE = (
    (rf" \((?:e\.g\. )?{_LIST}\)", ""),  # it said nothing else
    (rf", (?:only|such as) {_LIST}(?=[;.,])", ""),
    (r"\bthe input (?:a file|the input)\b", "the input"),  # a name with a space in it
    (rf"({_REMOVED})((?:, \1)* and \1|(?:, \1)+)(?=\W|$)", lambda match: _SEVERAL.get(match[1], match[1])),
)
_SHORTEST = 4  # shorter names and numbers ("12") also occur as plain words in a message


def redact(message: str, subject: Subject, origin: str = "") -> str:
    """The message without paths, names, identifiers and values.

    Args:
        message: a reader's warning or error.
        subject: the subject that the message is about.
        origin: the series' name in messages, if it was read.
    """
    for name in sorted(_names(subject, message) | ({origin} - {""}), key=len, reverse=True):
        message = re.sub(re.escape(name) + r"(?:[/\\][^\s'\"(),:;]*)?", "the input", message)
    if len(subject.identifier) >= _SHORTEST:
        message = re.sub(rf"[^\s(),:;]*{re.escape(subject.identifier)}[^\s(),:;]*", "the input", message, flags=re.I)
    for pattern, word in _IDENTIFYING:
        message = re.sub(pattern, word, message, flags=re.IGNORECASE)
    for pattern, words in _READABLE:
        message = re.sub(pattern, words, message)
    return printable(re.sub(r"^(?:the input|a file|several files): ", "", message))


def _names(subject: Subject, message: str) -> set[str]:
    """Names of the files and folders that the subject is read from, and of all below them.

    A subject that cannot be used carries its message along, which may begin with a path, but is no name.
    """
    read = subject.read
    given = (*read.args, *read.keywords.values()) if isinstance(read, partial) else ()
    given = tuple(value for value in given if value != message)
    names = set()
    for path in map(Path, _paths(given)):
        with suppress(OSError):  # a name that is too long, a folder that may not be read
            names |= {name for one in paths_below(path) for name in (str(one), one.name)}
        names |= {str(path), path.name}
    return {name for name in names if len(name) >= _SHORTEST}


def _paths(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, os.PathLike) or (isinstance(value, str) and Path(value).is_absolute()):
            yield os.fspath(value)
        elif isinstance(value, tuple | list):
            yield from _paths(value)
