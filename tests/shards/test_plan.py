"""Plans: what enters their hash, and how a run with another plan is refused."""

import json

import pytest

from cpgg_hf.errors import RequestError
from cpgg_hf.shards import Shard, ShardPlan, keep_plan

SHARDS = (Shard("a.bin", "train", 0, 3), Shard("b.bin", "train", 3, 5))


def test_the_digest_changes_with_settings_and_shards_only():
    plan = ShardPlan({"seed": 1, "steps": {"mar": 16}}, SHARDS)
    assert plan.digest == ShardPlan({"steps": {"mar": 16}, "seed": 1}, SHARDS).digest
    others = [
        ShardPlan({"seed": 2, "steps": {"mar": 16}}, SHARDS),
        ShardPlan({"seed": 1, "steps": {"mar": 17}}, SHARDS),
        ShardPlan({"seed": 1, "steps": {"mar": 16}}, SHARDS[:1]),
        ShardPlan({"seed": 1, "steps": {"mar": 16}}, (SHARDS[0], Shard("b.bin", "train", 3, 6))),
        ShardPlan({"seed": 1, "steps": {"mar": 16}}, (SHARDS[0], Shard("b.bin", "test", 3, 5))),
    ]
    assert len({plan.digest, *(other.digest for other in others)}) == 6
    assert plan.num_items == 5


def test_a_kept_plan_is_compared_setting_by_setting(tmp_path):
    path = tmp_path / "plan.json"
    keep_plan(path, {"seed": 1, "views": ("4ch",), "steps": {"mar": 16, "head": 100}})
    keep_plan(path, {"steps": {"head": 100, "mar": 16}, "views": ["4ch"], "seed": 1})
    assert json.loads(path.read_text())["seed"] == 1
    with pytest.raises(RequestError, match=r"was started with steps\.mar = 16 \(now 20\); use the same settings"):
        keep_plan(path, {"seed": 1, "views": ["4ch"], "steps": {"mar": 20, "head": 100}})
    with pytest.raises(RequestError, match=r"seed = 1 \(now None\), steps\.head = 100 .* and 1 more"):
        keep_plan(path, {})


@pytest.mark.parametrize(("text", "reason"), [('{"seed": ', "Expecting value"), ("[" * 100_000, "recursion")])
def test_a_damaged_plan_is_refused(tmp_path, text, reason):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(RequestError, match=rf"cannot read .*plan\.json \(.*{reason}.*choose another folder"):
        keep_plan(tmp_path / "plan.json", {"seed": 1})
