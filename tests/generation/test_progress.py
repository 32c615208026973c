"""The lines of a run's log say that a share is finished when its shards are."""

from cpgg_hf.generation import progress
from cpgg_hf.generation.progress import Progress
from cpgg_hf.shards import Shard


def test_all_cines_are_reported_with_the_last_shard_and_not_before(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    share, shards = Progress(24), [Shard("a", "train", 0, 12), Shard("b", "train", 12, 24)]
    for shard in shards:
        share.cines_made(12)
        assert "24 of 24" not in capsys.readouterr().err
        share.shard_complete(shard)
    assert "24 of 24 cines (100.0%)" in capsys.readouterr().err
