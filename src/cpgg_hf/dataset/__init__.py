"""Cine data sets as parquet shards that plain `datasets.load_dataset` reads, streaming included.

A folder, or a data set repository on the Hub, holds `<split>-00000-of-000NN.parquet`, `dataset.json` with the counts,
and a card (`card.write_card`). `rows` has the row format; `parquet` and `writer` write shards; `loading` and `stream`
read them.
"""

from cpgg_hf.dataset.loading import load_cines
from cpgg_hf.dataset.parquet import (
    DESCRIPTION_FILE,
    SPLITS,
    find_shards,
    read_description,
    shard_path,
    write_description,
    write_shard,
)
from cpgg_hf.dataset.rows import cine_of, cine_row, decode_cine
from cpgg_hf.dataset.writer import CineWriter

__all__ = [
    "DESCRIPTION_FILE",
    "SPLITS",
    "CineWriter",
    "cine_of",
    "cine_row",
    "decode_cine",
    "find_shards",
    "load_cines",
    "read_description",
    "shard_path",
    "write_description",
    "write_shard",
]
