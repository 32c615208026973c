"""Real processes that train: forked from a server that has imported the training room once, so each starts quickly."""

import json
import multiprocessing
import os
import resource
import signal
import socket
import time
import traceback
from pathlib import Path

import datasets
import torch

from cpgg_hf.training import checkpoints
from cpgg_hf.training.errors import TrainingError
from cpgg_hf.training.loop import train
from cpgg_hf.training.mar_stage import MARStage
from cpgg_hf.training.vae_stage import VAEStage

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["training.processes"])


class Float64VAE(VAEStage):
    def build(self):
        return super().build().double()


class Float64MAR(MARStage):
    def build(self):
        return super().build().double()


STAGES = {"vae": VAEStage, "mar": MARStage, "vae64": Float64VAE, "mar64": Float64MAR}


class Processes:
    """A run on one or several processes; `outcome` names what each of them ended with.

    Args:
        stage, model, settings, changes: as `conftest.run` takes them; the stage by its name in `STAGES`.
        num_processes: how many.
        die_while_saving: the checkpoint whose writing is broken off by SIGKILL, just before it gets its name.
        file_size_limit: bytes that a file may have, as on a disk with no more space.
    """

    def __init__(
        self, stage, model, settings, num_processes=1, die_while_saving=None, file_size_limit=None, **changes
    ):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.folder = Path({**settings, **changes}["output_dir"])
        self.outcomes = self.folder.parent / f"{self.folder.name}-outcomes-{port}"
        self.outcomes.mkdir()
        job = (stage, model, {**settings, **changes}, die_while_saving, file_size_limit)
        place = (num_processes, port, str(datasets.config.HF_DATASETS_CACHE), self.outcomes)
        self.members = [_CONTEXT.Process(target=_member, args=(rank, *place, *job)) for rank in range(num_processes)]
        for member in self.members:
            member.start()

    def wait_for(self, name):
        """Until a file or folder of the run is there, or a process has ended."""
        while not (self.folder / name).exists() and all(member.is_alive() for member in self.members):
            time.sleep(0.002)

    def signal(self, number, rank):
        os.kill(self.members[rank].pid, number)

    def kill(self):
        for member in self.members:
            member.kill()
        return self.join()

    def join(self):
        """What each process ended with: its number of processes and steps, an error's text, or None if killed."""
        for member in self.members:
            member.join(400)
            assert not member.is_alive(), "a process hangs"
        files = [self.outcomes / f"{rank}.json" for rank in range(len(self.members))]
        return [json.loads(file.read_text()) if file.exists() else None for file in files]


def _member(rank, world, port, cache, outcomes, stage, model, settings, die_while_saving, file_size_limit):
    torch.set_num_threads(1)
    datasets.config.HF_DATASETS_CACHE = Path(cache)
    os.environ |= {"ACCELERATE_USE_CPU": "true", "HF_DATASETS_CACHE": cache}
    if world > 1:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
    if file_size_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size_limit, resource.RLIM_INFINITY))
    if die_while_saving is not None:
        rename = checkpoints.rename_folder

        def die(partial, folder):
            if folder.name == die_while_saving:
                os.kill(os.getpid(), signal.SIGKILL)
            rename(partial, folder)

        checkpoints.rename_folder = die
    arguments = STAGES[stage].arguments_class(**settings)
    arguments.model = dict(model)
    try:
        state = train(STAGES[stage](arguments))
    except TrainingError as error:
        outcome = {"error": str(error)}
    except BaseException:
        outcome = {"error": traceback.format_exc()}
    else:
        from accelerate import PartialState

        outcome = {"num_processes": PartialState().num_processes, "step": state.step}
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    (outcomes / f"{rank}.json").write_text(json.dumps(outcome))
