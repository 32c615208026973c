"""Real processes that train: forked from a server that has imported the training package once, so they start fast."""

import gc
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

from cpgg_hf.errors import TrainingError
from cpgg_hf.training import checkpoints
from cpgg_hf.training.loop import train
from cpgg_hf.training.stages.mar import MARStage
from cpgg_hf.training.stages.vae import VAEStage

_CONTEXT = multiprocessing.get_context("forkserver")
# What takes long to import, under names that the server finds: it does not know pytest's `pythonpath`.
_CONTEXT.set_forkserver_preload(
    [
        "cpgg_hf.training.loop",
        "cpgg_hf.training.stages.mar",
        "cpgg_hf.training.stages.vae",
        "torch.distributed.fsdp",
        "torchmetrics.functional.image",
    ]
)


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
        self.members = [
            _CONTEXT.Process(target=_member, args=(rank, *place, *job), daemon=True) for rank in range(num_processes)
        ]
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
        if hanging := [rank for rank, member in enumerate(self.members) if member.is_alive()]:
            for member in self.members:
                member.kill()
            raise AssertionError(f"process(es) {hanging} of {len(self.members)} hang")
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
    leave = torch.distributed.destroy_process_group

    def leave_alone(*group):
        """A gradient reducer that outlives its group deadlocks, but only now and then."""
        kept = [item for item in gc.get_objects() if isinstance(item, torch.nn.parallel.DistributedDataParallel)]
        assert not kept, "a gradient reducer outlives its process group"
        leave(*group)

    torch.distributed.destroy_process_group = leave_alone
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


def average_sharded_weights(folder):
    """Two processes: the average of a sharded MAR is gathered, saved and restored as that of a whole one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    members = [_CONTEXT.Process(target=_sharded_member, args=(rank, port, folder)) for rank in range(2)]
    for member in members:
        member.start()
    for member in members:
        member.join(400)
    return [member.exitcode for member in members]


def _sharded_member(rank, port, folder):
    from types import SimpleNamespace

    from torch.distributed.fsdp import fully_shard

    from cpgg_hf.models.configuration_cpgg_mar import CPGGMARConfig
    from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel
    from cpgg_hf.training.weights import TrainedWeights

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    torch.manual_seed(0)
    config = CPGGMARConfig(
        latent_channels=2, latent_size=(2, 8, 8), patch_size=(1, 4, 4), encoder_width=16, encoder_depth=1,
        decoder_width=16, decoder_depth=1, num_attention_heads=2, num_condition_tokens=1, head_width=16, head_depth=1,
    )  # fmt: skip
    network = CPGGMARModel(config)
    for layer in (*network.encoder_layers, *network.decoder_layers):
        fully_shard(layer)
    fully_shard(network)
    accelerator = SimpleNamespace(is_main_process=rank == 0, device=torch.device("cpu"))
    weights = TrainedWeights(accelerator, network, ema_decay=0.5)
    before = [parameter.full_tensor().clone() for parameter in network.parameters()]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    weights.step()  # the first step takes the weights as they are
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    weights.step()  # decay (1 + 1) / (10 + 1)
    state = weights.average.state_dict()
    weights.average.load_state_dict(state)
    with weights.whole_network(averaged=True) as whole:
        assert (whole is None) == (rank == 1)
        if whole is not None:
            for average, start in zip(whole.parameters(), before, strict=True):
                torch.testing.assert_close(average, start + 1 + 9 / 11)
            whole.save_pretrained(folder)
    torch.distributed.destroy_process_group()
