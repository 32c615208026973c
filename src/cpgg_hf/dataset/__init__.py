"""Cine data sets as parquet shards that plain `datasets.load_dataset` reads, streaming included: the front door.

A folder, or a data set repository on the hub, holds `<split>-00000-of-000NN.parquet`, `dataset.json` with the counts
and, from `card.write_card`, a card. One row is one cine: its pixels (`cine_encoding`), shape, pixel spacing and
frame time, where it comes from, its 82 phenotypes in physical units (NaN = missing), and a preview. The rooms behind:
`cine_rows`, `cine_shards`, `cine_writer`, `cine_description` to write; `cine_source`, `cine_loading`, `cine_stream` to
read.
"""

from cpgg_hf.dataset.description import DESCRIPTION_FILE, read_description, write_description
from cpgg_hf.dataset.loading import load_cines
from cpgg_hf.dataset.parquet import FORMAT_VERSION, SPLITS, find_shards, read_plan, shard_path, write_shard
from cpgg_hf.dataset.rows import NUM_PHENOTYPES, cine_row, decode_cine
from cpgg_hf.dataset.writer import CineWriter

__all__ = [
    "DESCRIPTION_FILE",
    "FORMAT_VERSION",
    "NUM_PHENOTYPES",
    "SPLITS",
    "CineWriter",
    "cine_row",
    "decode_cine",
    "find_shards",
    "load_cines",
    "read_description",
    "read_plan",
    "shard_path",
    "write_description",
    "write_shard",
]
