"""The one engine for work in parts: resumable after a kill, with the same bytes for any number of workers."""

from cpgg_hf.files.checksum import checksum
from cpgg_hf.shards.engine import ShardFolder, locked, make_shards
from cpgg_hf.shards.plan import Shard, ShardPlan, keep_plan
from cpgg_hf.shards.processes import make_shards_in_processes, run_alone
from cpgg_hf.shards.seeds import derive_seed

__all__ = [
    "Shard",
    "ShardFolder",
    "ShardPlan",
    "checksum",
    "derive_seed",
    "keep_plan",
    "locked",
    "make_shards",
    "make_shards_in_processes",
    "run_alone",
]
