"""Messages about one of many scans advise nothing that the command cannot do."""

import pytest

from cpgg_hf.errors import advising_only


@pytest.mark.parametrize(
    ("message", "options", "expected"),
    [
        ("no heart; provide a mask (`mask`, --mask).", {"--view"}, "no heart; check the scan, or leave it out."),
        ("two (1: a; 2: b); choose (series, --series).", set(), "two (1: a; 2: b); check the scan, or leave it out."),
        ("no RR; give it (rr_ms, --rr-ms).", {"--view"}, "no RR; check the scan, or leave it out."),
        ("no RR; give it (rr_ms, --rr-ms).", {"--rr-ms"}, "no RR; give it (rr_ms, --rr-ms)."),
        ("it is SAX; accept it with --view any.", {"--view"}, "it is SAX; accept it with --view any."),
        ("frame 3 is empty; leave it out.", set(), "frame 3 is empty; leave it out."),
    ],
)
def test_options_that_a_command_lacks_are_not_advised(message, options, expected):
    assert advising_only(message, options) == expected
