"""Which cases are tried: numbered, each drawn from its own number alone, so that one can be tried again.

CPGG_FUZZ_CASES=20000 pytest tests/fuzz      cases of all formats together (default 2,000)
CPGG_FUZZ_CASE=dicom:123 pytest tests/fuzz   one case again, as a failure names it; dicom:5-9 some
"""

import os
import random
from collections import Counter
from collections.abc import Iterator

DEFAULT_CASES = 2000
SHARES = {
    "dicom": 0.32,
    "nifti": 0.25,
    "mask": 0.03,
    "zip": 0.14,
    "ukb-table": 0.03,
    "cohort-table": 0.03,
    "request": 0.2,
}

# Cases beyond the default ones that once got a wrong answer.
_FOUND = {"nifti": (2208, 5232), "cohort-table": (360,), "request": (2342, 2538)}


def case_numbers(kind: str) -> list[int]:
    """The cases of one of `SHARES` to try, those that once found a fault always among them."""
    again, _, numbers = os.environ.get("CPGG_FUZZ_CASE", "").partition(":")
    if again:
        first, _, last = numbers.partition("-")
        return list(range(int(first), int(last or first) + 1)) if again == kind else []
    first_ones = range(round(SHARES[kind] * int(os.environ.get("CPGG_FUZZ_CASES", DEFAULT_CASES))))
    return sorted({*first_ones, *_FOUND.get(kind, ())})


def batches(kind: str, size: int) -> Iterator[list[int]]:
    """The cases of a kind, some at a time."""
    numbers = case_numbers(kind)
    for first in range(0, len(numbers), size):
        yield numbers[first : first + size]


def draw_of(kind: str, number: int) -> random.Random:
    """Where all of a case's choices come from."""
    return random.Random(f"{kind}:{number}")


class Tally:
    """What became of the cases of a kind; `finish` prints it and fails where an answer was wrong."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []

    def add(self, number: int, outcome: str, fault: str | None = None) -> None:
        self.outcomes[outcome] += 1
        if fault:
            self.wrong.append(f"CPGG_FUZZ_CASE={self.kind}:{number}: {fault}")

    def finish(self) -> None:
        total = sum(self.outcomes.values())
        print(f"\n{self.kind}: {total} cases, {self.outcomes['used']} used, {total - self.outcomes['used']} refused")
        for outcome, count in self.outcomes.most_common(40):
            print(f"{count:7d}  {outcome}")
        assert total < 20 or self.outcomes["used"] >= total / 20, "hardly a case was read: the cases try nothing"
        listed = "\n".join(self.wrong[:20])
        assert not self.wrong, f"{len(self.wrong)} of {total} cases got a wrong answer:\n{listed}"
