"""Claims: one process at a time holds a name; what the dead held is taken over, what the living hold is not."""

import os
import subprocess
import time

import pytest

from cpgg_hf.generation import claims as claims_module
from cpgg_hf.generation.claims import Claims


@pytest.fixture
def claims(tmp_path):
    return Claims(tmp_path / "claims")


def test_a_name_is_held_by_one_and_free_again_at_the_end(claims):
    with claims.take(["a"]) as held:
        assert held.name == "a"
        assert claims.take(["a"]) is None
        assert claims.take(["a", "b"]).name == "b"
    assert claims.take(["a"]).name == "a"


def test_what_a_dead_process_held_is_taken_over_once(claims):
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = Claims(claims.folder)
    left._owner = f"{claims_module._machine()} {dead.pid}"
    assert left.take(["a"]).path.name == "a.0"
    assert claims.take(["a", "b"]).name == "b"  # what nobody ever held comes first
    assert claims.take(["a", "b"]).path.name == "a.1"
    assert claims.take(["a", "b"]) is None


def test_another_machines_claim_is_taken_over_when_it_is_not_touched_any_more(claims, monkeypatch):
    left = Claims(claims.folder)
    left._owner = "another node 1"
    held = left.take(["a"]).path
    clock = [1000.0]
    monkeypatch.setattr(claims_module.time, "monotonic", lambda: clock[0])
    for beat in range(4):
        os.utime(held, ns=(beat, beat))  # that node's clock may say anything
        assert claims.take(["a"]) is None
        clock[0] += 100
        assert claims.take(["a"]) is None
    clock[0] += 30
    assert claims.take(["a"]).path.name == "a.1"


def test_a_claim_is_touched_as_long_as_it_is_held(claims, monkeypatch):
    monkeypatch.setattr(claims_module, "HEARTBEAT_SECONDS", 0.01)
    with claims.take(["a"]) as held:
        os.utime(held.path, ns=(0, 0))
        while held.path.stat().st_mtime_ns == 0:
            time.sleep(0.01)
    assert not held.path.exists()


def test_others_hear_what_the_living_have_made(claims):
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = Claims(claims.folder)
    left._owner = f"{claims_module._machine()} {dead.pid}"
    left.take(["a"]).advance(5)
    assert claims.count_made(["a", "b"]) == 0
    with claims.take(["a"]) as held, claims.take(["b"]) as other:
        held.advance(1)
        held.advance(3)
        other.advance(4)
        assert Claims(claims.folder).count_made(["a", "b"]) == 7
        assert claims.count_made(["a"]) == 3  # b is finished, and counted as such
        assert claims.take(["a"]) is None
        other.path.unlink()
        other.advance(9)
        assert not other.path.exists()


def test_a_cleared_folder_gives_no_claims(claims):
    claims.clear()
    assert claims.take(["a"]) is None
