"""Claims: one process at a time holds a name; what the dead held is taken over, what the living hold is not."""

import subprocess
import time

import pytest

from cpgg_hf.generation import claims as claims_module
from cpgg_hf.generation.claims import Claims


@pytest.fixture
def claims(tmp_path):
    return Claims(tmp_path / "claims", patience=0.2)


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
    monkeypatch.setattr(claims_module, "_machine", lambda: "another node")
    monkeypatch.setattr(claims_module, "HEARTBEAT_SECONDS", 0.05)
    with Claims(claims.folder).take(["a"]):
        monkeypatch.setattr(claims_module, "_machine", lambda: "this node")
        for _ in range(8):
            assert claims.take(["a"]) is None
            time.sleep(0.05)
    left = Claims(claims.folder)
    left._owner = "another node 1"
    assert left.take(["a"]).path.name == "a.0"
    assert claims.take(["a"]) is None
    time.sleep(0.3)
    assert claims.take(["a"]).path.name == "a.1"


def test_a_cleared_folder_gives_no_claims(claims):
    claims.clear()
    assert claims.take(["a"]) is None
