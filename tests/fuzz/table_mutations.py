"""Mutated tables: cells, columns, rows, separators, quotes, encodings; and JSON of every shape."""

import csv
import io
import json
import random
from typing import Any

from .byte_mutations import ODD_TEXTS, damaged

_ENCODINGS = ("utf-8-sig", "utf-16", "latin-1", "utf-32", "cp037")


def csv_bytes(rows: list[list[str]], separator: str = ",", quoting: int = csv.QUOTE_MINIMAL, end: str = "\n") -> bytes:
    """Rows as a CSV file."""
    text = io.StringIO()
    try:
        csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=end, escapechar="\\").writerows(rows)
    except csv.Error:  # what no CSV file can hold
        return "\n".join(separator.join(row) for row in rows).encode()
    return text.getvalue().encode()


def mutated_csv(rows: list[list[str]], draw: random.Random) -> bytes:
    """A table with one to three faults."""
    rows = [list(row) for row in rows]
    separator, quoting, end, encoding = ",", csv.QUOTE_MINIMAL, "\n", "utf-8"
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        kind = draw.random()
        if kind < 0.8:
            draw.choice([_cell, _cell, _cell, _column, _row, _ragged])(rows, draw)
        elif kind < 0.85:
            separator = draw.choice([";", "\t", "|", " "])
        elif kind < 0.89:
            quoting = draw.choice([csv.QUOTE_ALL, csv.QUOTE_NONE, csv.QUOTE_NONNUMERIC])
        elif kind < 0.95:
            end = draw.choice(["\r\n", "\r", "\n\n", "\n \n", ""])
        else:
            encoding = draw.choice(_ENCODINGS)
    content = csv_bytes(rows, separator, quoting, end).decode(errors="replace").encode(encoding, errors="replace")
    return damaged(content, draw, len(content)) if draw.random() < 0.15 and content else content


def _cell(rows: list[list[str]], draw: random.Random) -> None:
    row = draw.choice(rows)
    if row:
        place = draw.randrange(len(row))
        if draw.random() < 0.4 and row is not rows[0]:
            row[place] = draw.choice(["", "NA", f" {row[place]} ", f"{row[place]}0", "1e2", "61.5"])
            return
        row[place] = draw.choice([*ODD_TEXTS, "9" * 5000, "x" * 200_000, "=1+1", "50%", "５０"])


def _column(rows: list[list[str]], draw: random.Random) -> None:
    """A column twice, away, elsewhere, or only its name changed."""
    width = min(map(len, rows), default=0)
    if width == 0:
        return
    place, other = draw.randrange(width), draw.randrange(width)
    kind = draw.randrange(4)
    for row in rows:
        if kind == 0:
            row.insert(other, row[place])
        elif kind == 1:
            del row[place]
        elif kind == 2:
            row[place], row[other] = row[other], row[place]
    if kind == 3:
        rows[0][place] = draw.choice([rows[0][other], f" {rows[0][place]} ", rows[0][place].lower(), "24103", ""])


def _row(rows: list[list[str]], draw: random.Random) -> None:
    place = draw.randrange(len(rows))
    kind = draw.randrange(3)
    if kind == 0 and len(rows) > 1:
        del rows[place]
    elif kind == 1:
        rows.insert(place, list(draw.choice(rows)))
    else:
        draw.shuffle(rows)


def _ragged(rows: list[list[str]], draw: random.Random) -> None:
    row = draw.choice(rows)
    if draw.random() < 0.5 and row:
        del row[draw.randrange(len(row))]
    else:
        row.insert(draw.randrange(len(row) + 1), draw.choice(["", "1", "x"]))


def mutated_json(known: dict[str, float], draw: random.Random) -> bytes:
    """`{"phenotypes": {name: value}}` with a fault."""
    values: dict[Any, Any] = dict(known)
    content: Any = {"phenotypes": values}
    name = draw.choice(list(values))
    match draw.randrange(8):
        case 0:
            values[name] = draw.choice([*ODD_TEXTS, None, True, [], [1], [1, 2], [[1]], {}, {"a": 1}, -5, 0, 1e308])
        case 1:
            values[draw.choice(ODD_TEXTS)] = 1.0
        case 2:
            content = draw.choice([[], None, 3, "text", [content], {"phenotypes": [values]}, {"phenotypes": None}])
        case 3:
            depth = draw.choice([3, 500, 100_000])
            return b'{"phenotypes": ' + b"[" * depth + b"]" * depth + b"}"
        case 4:
            number = draw.choice(["NaN", "Infinity", "-Infinity", "1e999", "9" * 400, "9" * 5000, "0x1", "1_0"])
            return f'{{"phenotypes": {{"{name}": {number}}}}}'.encode()
        case 5:
            return f'{{"phenotypes": {{"{name}": 50.0, "{name}": 60.0}}}}'.encode()
        case 6:
            return f'{{"phenotypes": {{"\\ud800{name}": 50.0}}}}'.encode()
        case _:
            encoded = json.dumps(content).encode(draw.choice(["utf-8", "utf-8", *_ENCODINGS]), errors="replace")
            return damaged(encoded, draw, len(encoded)) if isinstance(encoded, bytes) else encoded
    return json.dumps(content).encode()
