"""UK Biobank: zips of field 20208 (long-axis heart images) as they are delivered, joined with fields 24100-24181.

A zip holds the cines of one visit: two-, three- and four-chamber, some of them repeated, and images that the scanner
derived from them. The four-chamber cine must be labelled so in the manifest *and* have such a plane.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.errors import InputError
from cpgg_hf.grid import NUM_FRAMES
from cpgg_hf.preparation.grid.view import classify_view, require_view
from cpgg_hf.preparation.layouts.subject import Subject, refuse
from cpgg_hf.preparation.layouts.ukb.manifest import read_manifest
from cpgg_hf.preparation.layouts.ukb.table import read_ukb_phenotypes
from cpgg_hf.scans.files import files_below
from cpgg_hf.scans.safe_zip import base_name, open_zip
from cpgg_hf.scans.zip_series import ZippedSeries, list_series, read_zipped_series

LONG_AXIS_FIELD = 20208
_ZIP_NAME = re.compile(rf"(\d+)_{LONG_AXIS_FIELD}_(\d+)_\d+\.zip", re.IGNORECASE)
_FOUR_CHAMBER = re.compile(r"(?:\b|_)(?:4|four)[\s_-]*ch", re.IGNORECASE)
_DERIVED = re.compile(r"inline", re.IGNORECASE)  # InlineVF: contours and results that the scanner drew


def find_ukb_subjects(
    bulk: str | os.PathLike[str], phenotypes_table: str | os.PathLike[str], instance: int = 2
) -> list[Subject]:
    """The participants with a zip `<eid>_20208_<instance>_<array>.zip`, in the order of their EIDs.

    Unusable participants (two zips, two rows that differ, values that are not numbers) are included: their `read`
    raises the reason, so that they are excluded with it.

    Args:
        bulk: the folder of the zips, sub-folders included.
        phenotypes_table: CSV or TSV, see `read_ukb_phenotypes`; participants without a row are used too.
        instance: the imaging visit: 2 is the first, 3 the repeat.

    Raises:
        InputError: no such zips, no usable table, or a table of other participants.
    """
    bulk = Path(bulk).absolute()
    zips: dict[str, list[Path]] = defaultdict(list)
    for path in files_below(bulk):
        match = _ZIP_NAME.fullmatch(path.name)
        if match and int(match[2]) == instance:
            zips[match[1]].append(path)
    if not zips:
        raise InputError(
            f"{bulk} holds no zip of instance {instance}; expected names such as "
            f"1234567_{LONG_AXIS_FIELD}_{instance}_0.zip."
        )
    known = read_ukb_phenotypes(phenotypes_table, zips.keys(), instance)
    return [_subject(eid, zips[eid], known.get(eid)) for eid in sorted(zips, key=int)]


def _subject(eid: str, paths: list[Path], known: np.ndarray | InputError | None) -> Subject:
    if len(paths) > 1:
        listed = " and ".join(str(path) for path in paths[:2])
        return Subject(eid, partial(refuse, f"{listed} are of one participant and visit; keep one."), source="ukb")
    if isinstance(known, InputError):
        return Subject(eid, partial(refuse, str(known)), source="ukb")
    return Subject(eid, partial(read_ukb_zip, str(paths[0])), known, source="ukb", without_row=known is None)


def read_ukb_zip(path: str | os.PathLike[str]) -> Cine:
    """Read the four-chamber cine of a zip of field 20208, without unpacking it to disk.

    Raises:
        InputError: a zip that cannot be used (see `open_zip`), no series with the label and plane of a four-chamber
            cine, or none with exactly 50 usable frames.
    """
    with open_zip(path) as archive:
        series, notes = list_series(archive)
        labels = read_manifest(archive)
        if not labels:
            notes += (f"{path}: no usable manifest; the images' series descriptions were used.",)
        chosen, choice_notes = _choose([(_label(one, labels), one) for one in series], str(path))
        cine = read_zipped_series(archive, chosen)
    return replace(cine, warnings=(*notes, *choice_notes, *cine.warnings))


def _label(series: ZippedSeries, labels: dict[str, str]) -> str:
    """The manifest's label of a series (of most of its files), or else the series description."""
    named = Counter(label for info in series.members if (label := labels.get(base_name(info))))
    return named.most_common(1)[0][0] if named else series.description


def _choose(series: Sequence[tuple[str, ZippedSeries]], origin: str) -> tuple[ZippedSeries, tuple[str, ...]]:
    """The last complete series with the label and the plane of a four-chamber cine, and warnings."""
    labelled = [(label, one) for label, one in series if _FOUR_CHAMBER.search(label) and not _DERIVED.search(label)]
    if not labelled:
        found = ", ".join(sorted({repr(label) for label, _ in series}))
        content = f"no series labelled four-chamber, only {found}" if series else "no DICOM images"
        raise InputError(f"{origin} has {content}; leave it out.")
    of_plane, refusals = [], []
    for label, one in labelled:
        try:
            notes = require_view(classify_view(one.normal), "4ch", f"{origin}: the series labelled {label!r}")
            of_plane.append((one, notes))
        except InputError as error:
            refusals.append(f"{str(error).rsplit(';', 1)[0]}; check the images, or leave it out.")
    if not of_plane:
        raise InputError(refusals[0])
    complete = [(one, notes) for one, notes in of_plane if len(one.members) == NUM_FRAMES]
    if not complete:
        counts = " and ".join(str(len(one.members)) for one, _ in of_plane)
        raise InputError(
            f"{origin}: the four-chamber series has {counts} frames, expected {NUM_FRAMES}; fetch the zip again, or "
            "leave it out."
        )
    chosen, notes = complete[-1]
    if len(complete) > 1:
        notes += (f"{origin}: {len(complete)} four-chamber series; the last one was used.",)
    return chosen, (*refusals, *notes)
