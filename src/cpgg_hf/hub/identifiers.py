"""Finds participants' identifiers (UK Biobank EIDs, 7 digits) in files before they are published.

Without the secret key of the pseudonyms it finds only numbers labelled as EID (`eid`, `f.eid`, `n_eid`, `eid_...`,
"Participant ID") and UK Biobank's file names. With the key, `preparation.cohorts.participants` recognises every
7-digit number that belongs to a subject of the cohort. Archives that cannot be searched are refused.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from cpgg_hf.errors import InputError, PolicyError
from cpgg_hf.files.policy_record import is_hidden
from cpgg_hf.hub.text_extraction import extract_text

_NUMBER = re.compile(r"(?<!\d)(?<!\d\.)[1-9]\d{6}(?!\d)")
_NAMED = re.compile(
    r"(?<![^\W_])(?:eid|participant[ _.]?id)(?:[_.]\w{0,20}?)?[\W_]{0,6}(?<!\d)[1-9]\d{6}(?!\d)", re.IGNORECASE
)
_DELIVERED = re.compile(r"(?<!\d)([1-9]\d{6})_2\d{4}_\d+_\d+")
_DIGEST = re.compile(r"\b(?=[0-9]*[a-f])[0-9a-f]{16,}\b")  # hashes and pseudonyms contain 7 digits by chance


def check_identifiers(folder: str | os.PathLike[str], is_participant: Callable[[str], bool] | None = None) -> None:
    """Refuse a folder in which the name or content of a file, except hidden ones, contains a participant's identifier.

    Args:
        folder: the folder to publish.
        is_participant: whether 7 digits are a participant's identifier; None = look only for labelled ones.

    Raises:
        PolicyError: one was found, or an archive cannot be searched. The message names the place, not the identifier.
    """
    found = [f"{path} ({place})" for path, place in find_identifiers(folder, is_participant)]
    if found:
        shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        raise PolicyError(f"{folder} contains identifiers of participants in {shown}; remove them before pushing.")


def find_identifiers(
    folder: str | os.PathLike[str], is_participant: Callable[[str], bool] | None = None
) -> Iterator[tuple[str, str]]:
    """(file, first place in it) of each file that contains a participant's identifier."""
    folder = Path(folder)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if not path.is_file() or is_hidden(name):
            continue
        if _contains_identifier(str(name), is_participant):
            yield _without_numbers(str(name)), "file name"
            continue
        try:
            for place, text in extract_text(path):
                if _contains_identifier(text, is_participant):
                    yield str(name), _without_numbers(place)
                    break
        except InputError as error:
            raise PolicyError(f"{name} cannot be searched for identifiers: {_without_numbers(str(error))}.") from error


def _contains_identifier(text: str, is_participant: Callable[[str], bool] | None) -> bool:
    if _NAMED.search(text) or _DELIVERED.search(text):
        return True
    if is_participant is None:
        return False
    return any(is_participant(number) for number in set(_NUMBER.findall(_DIGEST.sub("", text))))


def _without_numbers(text: str) -> str:
    return _NUMBER.sub("#######", text)
