"""FSDP (Zhao et al. 2023): weights, gradients and optimizer state cut up among the processes, by torch's `fully_shard`.

What is cut up is a copy of the model. The model itself stays whole in every process, and is brought up to date where it
is needed: to sample captions, to score dev, to save. These go through the model in their own ways, token by token and
each process as often as it must, which a sharded one, whose processes must always step together, does not allow.

accelerate shards on GPUs alone and in ways of its own; this is the same on all devices, so that what is tested on CPUs
is what runs on GPUs.
"""

import copy
import warnings
from typing import Any

import torch
import torch.distributed as dist
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from captionist.model.fusion import VisionPrefixLM


def wants_sharding() -> bool:
    """Whether `accelerate launch --use_fsdp` started this process."""
    return bool(parse_flag_from_env("ACCELERATE_USE_FSDP"))


def shard(model: VisionPrefixLM, device: torch.device, processes: int) -> VisionPrefixLM:
    """A copy of the model whose trained parameters are cut up among the processes; each block is gathered by itself.

    What is frozen has neither gradients nor optimizer state: it stays whole, and is the model's own.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), 0)  # DDP does so, too; transformers may have left the others' weights empty
    frozen = {parameter for parameter in model.parameters() if not parameter.requires_grad}
    sharded = copy.deepcopy(model, {id(parameter): parameter for parameter in frozen})
    # Keys and values are views. Nothing of ours changes them in place, which is all that this warns of.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
    mesh = init_device_mesh(device.type, (processes,))
    for block in (*sharded.encoder.backbone_modules(), *sharded.decoder.blocks, sharded):
        if any(parameter.requires_grad for parameter in block.parameters()):
            fully_shard(block, mesh=mesh, ignored_params=frozen)
    return sharded


@torch.no_grad()
def bring_up_to_date(model: nn.Module, trained: nn.Module) -> None:
    """Copy what training has changed into the model, if that is not the one that trains. All processes together."""
    if model is not trained:
        for mine, theirs in zip(model.parameters(), trained.parameters(), strict=True):
            if theirs.requires_grad:
                mine.copy_(whole(theirs))


def whole(tensor: Tensor) -> Tensor:
    """The tensor, gathered if it is cut up. All processes together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def cut_like(tensor: Tensor, other: Tensor) -> Tensor:
    """This process's part of a whole tensor, if `other` is cut up; on the other's device."""
    tensor = tensor.to(other.device)
    return distribute_tensor(tensor, other.device_mesh, other.placements) if isinstance(other, DTensor) else tensor


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """As `state_dict`, with whole tensors, so that any number of processes can go on. All processes together."""
    saved: dict[str, Any] = optimizer.state_dict()
    moments = {index: {name: whole(v) for name, v in entry.items()} for index, entry in saved["state"].items()}
    return saved | {"state": moments}


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Take what `optimizer_state` gave, cut up as the parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = {
        index: {name: cut_like(v, parameters[index]) if v.ndim else v for name, v in entry.items()}
        for index, entry in saved["state"].items()
    }
    optimizer.load_state_dict(saved | {"state": moments})
