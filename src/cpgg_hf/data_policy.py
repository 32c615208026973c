"""Data policies of data, networks and cards; a derived artefact inherits the strictest policy of its sources.

`phantom`: no patient is involved. `public`: from public data, under its licence. `restricted`: from patients or study
participants; must not leave the environment it was approved for. What states no policy is restricted.
"""

from collections.abc import Iterable

DATA_POLICIES = ("restricted", "public", "phantom")  # strictest first
UNKNOWN_POLICY = DATA_POLICIES[0]

LICENSES: dict[str, dict[str, str]] = {
    "restricted": {"license": "other", "license_name": "restricted"},
    "public": {"license": "other", "license_name": "as-the-source"},
    "phantom": {"license": "apache-2.0"},
}
"""Licence fields of a card's metadata, by policy."""


def strictest(policies: Iterable[str | None]) -> str:
    """The strictest of several policies; "restricted" for none at all, None or an unknown word."""
    found = set(policies)
    if not found or not found <= set(DATA_POLICIES):
        return UNKNOWN_POLICY
    return next(policy for policy in DATA_POLICIES if policy in found)
