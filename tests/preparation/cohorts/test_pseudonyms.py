"""Pseudonyms: stable under the same key, unguessable without it, and a key that stays away from the data."""

import hashlib
import hmac
import os
import re
import stat

import pytest

from cpgg_hf.dataset import SPLITS
from cpgg_hf.errors import InputError
from cpgg_hf.preparation.cohorts.pseudonyms import pseudonym, read_key, split_of

KEY = bytes(range(32))


def test_a_key_is_made_once_for_its_owner_only(tmp_path):
    path = tmp_path / "secrets" / "key"
    key = read_key(path, tmp_path / "out")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key(path, tmp_path / "out") == key
    assert len(key) == 32
    assert read_key(tmp_path / "other", tmp_path / "out") != key
    assert {one.name for one in path.parent.iterdir()} == {"key"}


def test_a_key_inside_the_data_set_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for place in ("out/key", "out/deep/key", "link/key", "out/../out/key"):
        with pytest.raises(InputError, match="keep it somewhere else"):
            read_key(tmp_path / place, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"ab" * 31, b"xy" * 32, b"\xff\xfe\x00"])
def test_a_damaged_key_is_refused_and_left_as_it_is(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InputError, match=r"holds no key .* restore it"):
        read_key(tmp_path / "key", tmp_path / "out")
    assert (tmp_path / "key").read_bytes() == content


def test_a_pseudonym_is_the_keyed_hash_of_the_identifier():
    expected = hmac.new(KEY, b"subject\x001234567", hashlib.sha256).hexdigest()[:24]
    assert pseudonym("1234567", KEY) == expected
    assert pseudonym("1234567", bytes(32)) != expected
    names = {pseudonym(str(number), KEY) for number in range(2000)}
    assert len(names) == 2000
    assert all(re.fullmatch("[0-9a-f]{24}", name) for name in names)


def test_a_folder_whose_name_is_no_text_has_a_pseudonym():
    assert re.fullmatch("[0-9a-f]{24}", pseudonym(os.fsdecode(b"Jos\xe9"), KEY))


def test_splits_keep_their_shares_and_their_subjects():
    splits = [split_of(str(number), KEY) for number in range(20000)]
    # Three standard deviations of a binomial count.
    for split, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
        assert splits.count(split) == pytest.approx(20000 * share, abs=3 * (20000 * share * (1 - share)) ** 0.5)
    assert splits != [split_of(str(number), bytes(32)) for number in range(20000)]
