"""FSDP (Zhao et al. 2023): weights, gradients and optimizer state split among the processes, by torch's `fully_shard`.

A copy of the model is split. The model itself stays whole in every process, and is updated where it is needed: to
sample captions, to score dev, to save. These use the model in ways of their own, token by token and as often as each
process must; the processes of a sharded model would always have to step together.

accelerate shards only on GPUs, and in its own ways; this is the same on all devices, so that what is tested on CPUs is
what runs on GPUs.
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
    """A copy of the model whose trained parameters are split among the processes; each block is gathered by itself.

    Frozen parameters have neither gradients nor optimizer state: they stay whole, and are the model's own.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), 0)  # as DDP does; transformers may have left the other processes' weights empty
    frozen = {parameter for parameter in model.parameters() if not parameter.requires_grad}
    sharded = copy.deepcopy(model, {id(parameter): parameter for parameter in frozen})
    # Keys and values are views. Our code never changes them in place, which is all that this warns about.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
    mesh = init_device_mesh(device.type, (processes,))
    for block in (*sharded.encoder.backbone_modules(), *sharded.decoder.blocks, sharded):
        if any(parameter.requires_grad for parameter in block.parameters()):
            fully_shard(block, mesh=mesh, ignored_params=frozen)
    return sharded


@torch.no_grad()
def bring_up_to_date(model: nn.Module, trained: nn.Module) -> None:
    """Copy what training has changed into the model, if another copy trains. Called by all processes together."""
    if model is not trained:
        for mine, theirs in zip(model.parameters(), trained.parameters(), strict=True):
            if theirs.requires_grad:
                mine.copy_(whole(theirs))


def whole(tensor: Tensor) -> Tensor:
    """The tensor, gathered if it is split. Called by all processes together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def cut_like(tensor: Tensor, other: Tensor) -> Tensor:
    """This process's part of a whole tensor, if `other` is split; on the other's device."""
    tensor = tensor.to(other.device)
    return distribute_tensor(tensor, other.device_mesh, other.placements) if isinstance(other, DTensor) else tensor


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """As `state_dict`, with whole tensors, so that any number of processes can continue. Called by all together."""
    saved: dict[str, Any] = optimizer.state_dict()
    moments = {index: {name: whole(v) for name, v in entry.items()} for index, entry in saved["state"].items()}
    return saved | {"state": moments}


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load what `optimizer_state` returned, split as the parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = {
        index: {name: cut_like(v, parameters[index]) if v.ndim else v for name, v in entry.items()}
        for index, entry in saved["state"].items()
    }
    optimizer.load_state_dict(saved | {"state": moments})
