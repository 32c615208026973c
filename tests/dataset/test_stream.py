"""A shuffled stream: every row once, another order each epoch, and on after a kill as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
from itertools import chain, islice, pairwise
from pathlib import Path

import pytest
import torch
from small_cines import numbers, write_numbered
from torch.utils.data import DataLoader

from cpgg_hf.dataset import read_description, write_description
from cpgg_hf.dataset.stream import CineStream
from cpgg_hf.dataset.stream_order import plan_windows
from cpgg_hf.errors import InputError

NUM_CINES = 331  # row groups of 50, 20, 50, 20, ..., 50, 1: nothing divides


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_numbered(tmp_path_factory.mktemp("stream") / "data", NUM_CINES)


def test_an_epoch_gives_every_cine_once_in_batches_of_tensors(folder):
    stream = CineStream(folder, batch_size=16)
    batches = list(stream)
    assert batches[0]["cine"].dtype == torch.uint8
    assert batches[0]["phenotypes"].dtype == torch.float32
    assert [len(batch["cine"]) for batch in batches] == [16] * 20 + [11]
    assert len(stream) == 21
    assert sorted(numbers(batches)) == list(range(NUM_CINES))


def test_epochs_and_seeds_have_orders_of_their_own_and_are_repeatable(folder):
    stream = CineStream(folder)
    orders = {}
    for epoch in (0, 1, 2):
        stream.set_epoch(epoch)
        orders[epoch] = numbers(stream)
    other = CineStream(folder, seed=1)
    other.set_epoch(1)
    orders["other seed"] = numbers(other)
    again = CineStream(folder, num_threads=1)
    again.set_epoch(1)
    assert numbers(again) == orders[1]
    assert len({tuple(order) for order in orders.values()}) == 4


def test_without_a_seed_the_stored_order_is_kept(folder):
    stream = CineStream(folder, seed=None)
    stream.set_epoch(3)
    assert numbers(stream) == list(range(NUM_CINES))


def test_a_batch_mixes_groups_and_neighbours_are_parted():
    windows = plan_windows([50] * 40, 0, 2000, groups_per_window=4, seed=0, epoch=0)
    assert [len(window.order) for window in windows] == [200] * 10
    for window in windows:
        assert {int(index) // 50 for index in window.order[:32]} == {0, 1, 2, 3}
    groups = [piece.group for window in windows for piece in window.pieces]
    assert sum(abs(one - other) == 1 for one, other in pairwise(groups)) < 6


@pytest.mark.parametrize("world_size", [2, 3, 7])
@pytest.mark.parametrize("epoch", [0, 1])
def test_processes_share_an_epoch_without_loss_or_repetition(folder, world_size, epoch):
    parts = []
    for rank in range(world_size):
        stream = CineStream(folder, batch_size=8, rank=rank, world_size=world_size)
        stream.set_epoch(epoch)
        parts.append(numbers(stream))
    assert sorted(chain(*parts)) == list(range(NUM_CINES))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_drop_last_gives_every_process_as_many_full_batches(folder):
    # 331 cines for 4 processes in batches of 83: shares of 82 and 83 would give some processes a batch more.
    streams = [CineStream(folder, batch_size=41, rank=rank, world_size=4, drop_last=True) for rank in range(4)]
    batches = [list(stream) for stream in streams]
    assert [[len(batch["cine"]) for batch in part] for part in batches] == [[41, 41]] * 4
    given = list(chain(*map(numbers, batches)))
    assert len(set(given)) == len(given) == 328


def test_workers_share_an_epoch_without_loss_or_repetition_and_see_the_epoch(folder):
    stream = CineStream(folder, batch_size=8, rank=1, world_size=2)
    alone = set(numbers(stream))
    loader = DataLoader(stream, batch_size=None, num_workers=2, persistent_workers=True)
    orders = []
    for epoch in (0, 0, 1):
        stream.set_epoch(epoch)
        orders.append(numbers(loader))
        assert len(orders[-1]) == len(set(orders[-1])) == len(alone)
    assert set(orders[0]) == alone
    assert orders[0] == orders[1] != orders[2]
    assert len(loader) == len(stream)


@pytest.mark.parametrize("batches_given", [0, 1, 9, 13, 20, 21])
def test_a_loaded_position_resumes_with_the_next_batch(folder, batches_given):
    stream = CineStream(folder, batch_size=16)
    stream.set_epoch(5)
    undisturbed = numbers(stream)
    interrupted = CineStream(folder, batch_size=16)
    interrupted.set_epoch(5)
    begun = numbers(islice(interrupted, batches_given))
    state = json.loads(json.dumps(interrupted.state_dict()))
    restarted = CineStream(folder, batch_size=16, num_threads=1)
    restarted.load_state_dict(state)
    assert restarted.state_dict() == state
    assert begun + numbers(restarted) == undisturbed
    assert numbers(restarted) == undisturbed  # the next iteration is a whole epoch again
    restarted.load_state_dict(state)
    restarted.set_epoch(6)
    assert sorted(numbers(restarted)) == list(range(NUM_CINES))


_TRAINING = """
import os
import sys
import torch
from cpgg_hf.dataset.stream import CineStream
stream = CineStream(sys.argv[1], batch_size=8, seed=4)
try:
    stream.load_state_dict(torch.load(sys.argv[2]))
except FileNotFoundError:
    pass
for epoch in range(stream.epoch, 2):
    stream.set_epoch(epoch)
    for batch in stream:
        print(*batch["phenotypes"][:, 0].int().tolist(), flush=True)
        torch.save(stream.state_dict(), sys.argv[2] + ".partial")
        os.replace(sys.argv[2] + ".partial", sys.argv[2])
"""


def test_a_killed_run_resumes_as_if_undisturbed(folder, tmp_path):
    expected = []
    stream = CineStream(folder, batch_size=8, seed=4)
    for epoch in range(2):
        stream.set_epoch(epoch)
        expected += numbers(stream)
    command = [sys.executable, "-c", _TRAINING, str(folder), str(tmp_path / "state.pt")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        lines = list(islice(run.stdout, 60))  # in the second epoch
        run.send_signal(signal.SIGKILL)
        lines += run.stdout.readlines()  # what it had said before the kill reached it
    state = torch.load(tmp_path / "state.pt")
    trained = lines[: len(stream) * state["epoch"] + state["batches_given"]]
    trained += subprocess.check_output(command, text=True, env=environment).splitlines()
    assert [int(number) for line in trained for number in line.split()] == expected


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stateful_data_loader_resumes_exactly(folder, num_workers):
    torchdata = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")

    def loader():
        return torchdata.StatefulDataLoader(
            CineStream(folder, batch_size=16), batch_size=None, num_workers=num_workers
        )

    undisturbed = numbers(loader())
    interrupted = loader()
    begun = numbers(islice(iter(interrupted), 9))
    restarted = loader()
    restarted.load_state_dict(interrupted.state_dict())
    assert begun + numbers(restarted) == undisturbed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 8}, "saved with batch_size = 16, this stream has 8"),
        ({"seed": 1}, "saved with seed = 0, this stream has 1"),
        ({"rank": 0, "world_size": 2}, "saved with world_size = 1, this stream has 2"),
    ],
)
def test_a_position_of_another_stream_is_refused(folder, changes, message):
    state = CineStream(folder, batch_size=16).state_dict()
    with pytest.raises(ValueError, match=message):
        CineStream(folder, **{"batch_size": 16, **changes}).load_state_dict(state)


def test_a_position_of_other_data_is_refused(folder, tmp_path):
    other = write_numbered(tmp_path / "other", NUM_CINES + 1)
    with pytest.raises(ValueError, match="saved with data"):
        CineStream(other).load_state_dict(CineStream(folder).state_dict())


def test_a_position_is_not_continued_by_another_number_of_workers(folder):
    stream = CineStream(folder, batch_size=16)
    list(islice(iter(stream), 3))
    stream.load_state_dict(stream.state_dict())
    with pytest.raises(ValueError, match="worker 0 of 1 and cannot be continued by"):
        list(DataLoader(stream, batch_size=None, num_workers=2))


def test_a_shard_that_changed_is_noticed(tmp_path):
    folder = write_numbered(tmp_path / "data", 120)
    description = read_description(folder)
    other = write_numbered(tmp_path / "other", 121)
    (other / "train-00001-of-00002.parquet").replace(folder / "train-00001-of-00002.parquet")
    with pytest.raises(InputError, match=r"holds 51 cines but dataset\.json lists 50"):
        list(CineStream(folder))
    assert write_description(folder)["splits"] != description["splits"]
    assert len(numbers(CineStream(folder))) == 121


def test_a_shard_damaged_in_its_middle_is_named(tmp_path):
    folder = write_numbered(tmp_path / "data", 60)
    (path,) = folder.glob("*.parquet")
    content = bytearray(path.read_bytes())
    content[200:2000] = bytes(1800)
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{Path(path).name} cannot be read"):
        list(CineStream(folder))


@pytest.mark.parametrize("setting", ["batch_size", "world_size", "groups_per_window", "num_threads"])
def test_settings_without_sense_are_refused(folder, setting):
    with pytest.raises(ValueError, match=f"{setting} must be at least 1, given 0"):
        CineStream(folder, **{setting: 0})
    with pytest.raises(ValueError, match="rank must lie in 0 to 1, given 2"):
        CineStream(folder, rank=2, world_size=2)


def test_the_order_of_row_groups_and_of_rows_changes_with_the_epoch():
    def order(epoch, groups_per_window):
        windows = plan_windows([5] * 8, 0, 40, groups_per_window, seed=0, epoch=epoch)
        return [piece.group for window in windows for piece in window.pieces], windows[0].order.tolist()

    assert order(0, 1)[0] != order(1, 1)[0]
    assert order(0, 8)[1] != order(1, 8)[1]
    assert order(0, 1) == order(0, 1)
