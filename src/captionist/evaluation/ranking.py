"""How a ranker learns to choose: it maximises the CIDEr-D that its choices can be expected to have.

The objective is that expectation under the softmax of the scores, plus a little of the softmax's entropy, so that
candidates of similar CIDEr-D stay close; plain regression on CIDEr-D chose worse. A few hundred pictures are little: so
the networks are small, their weights decay, and several of them are averaged into one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionist.inference.candidates import Candidates
from captionist.inference.ranker import Ranker

Floats = NDArray[np.float32]
_SCALE = 100.0  # units of CIDEr-D times 100
_NEVER = np.float32(-1e4)


@dataclass(frozen=True, slots=True, eq=False)
class Contest:
    """What competes for a picture, and how good it is.

    picture: its id; corpus: the name of its corpus; candidates: N; values: float32 [N], their CIDEr-D times 100.
    """

    picture: str
    corpus: str
    candidates: Candidates
    values: Floats


@dataclass(frozen=True, slots=True)
class Setting:
    """How a ranker is fitted.

    hidden: units of each network; nets: how many there are. entropy: the weight of the entropy, where 100 CIDEr-D have
    weight 1. decay: of the weights. rate: Adam's at the first step; steps: how many there are, each over all contests.
    """

    hidden: int = 8
    entropy: float = 0.1
    decay: float = 1.0
    nets: int = 6
    rate: float = 0.03
    steps: int = 80


def fit_ranker(contests: Sequence[Contest], names: Sequence[str], setting: Setting, seed: int = 0) -> Ranker:
    """Fit a ranker on these features. A corpus with four times as many pictures as another has twice its weight."""
    counts = {corpus: sum(contest.corpus == corpus for contest in contests) for corpus in {c.corpus for c in contests}}
    weights = np.array([counts[contest.corpus] ** -0.5 for contest in contests], np.float32)
    features = [contest.candidates.features() for contest in contests]
    rows = [np.stack([known[name] for name in names], axis=1) for known in features]
    together = np.concatenate(rows)
    mean, deviation = together.mean(axis=0), together.std(axis=0) + np.float32(1e-3)
    most = max(map(len, rows))
    inputs = np.zeros((len(rows), most, len(names)), np.float32)
    values, mask = np.zeros((len(rows), most), np.float32), np.full((len(rows), most), _NEVER)
    for place, (row, contest) in enumerate(zip(rows, contests, strict=True)):
        inputs[place, : len(row)] = (row - mean) / deviation
        values[place, : len(row)], mask[place, : len(row)] = contest.values, 0
    data = torch.from_numpy(inputs), torch.from_numpy(values), torch.from_numpy(mask)
    weight = torch.from_numpy(weights / weights.sum())
    generator = torch.Generator().manual_seed(seed)
    nets = [_fit(*data, weight, setting, generator) for _ in range(setting.nets)]
    linear, hidden, bias, out = zip(*nets, strict=True)
    return Ranker(
        tuple(names),
        mean,
        deviation,
        linear=np.mean(linear, axis=0),
        hidden=np.concatenate(hidden, axis=1),
        bias=np.concatenate(bias),
        out=(np.concatenate(out) / setting.nets).astype(np.float32),
    )


def _fit(
    inputs: Tensor, values: Tensor, mask: Tensor, weights: Tensor, setting: Setting, generator: torch.Generator
) -> list[Floats]:
    """One net's linear [F], hidden [F, H], bias and out [H]. inputs: [P, N, F]; mask: [P, N], added to the scores."""
    width, units = inputs.shape[-1], setting.hidden
    parts = [
        torch.nn.Parameter(scale * torch.randn(shape, generator=generator))
        for shape, scale in (((width,), 0.05), ((width, units), width**-0.5), ((units,), 0.0), ((units,), 0.05))
    ]
    linear, hidden, bias, out = parts
    optimiser = torch.optim.AdamW(parts, setting.rate, weight_decay=setting.decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, setting.steps)
    for _ in range(setting.steps):
        scores = inputs @ linear + torch.tanh(inputs @ hidden + bias) @ out + mask
        logs = scores.log_softmax(dim=1)
        gain = (logs.exp() * (values / _SCALE - setting.entropy * logs)).sum(dim=1)
        optimiser.zero_grad()
        (-weights @ gain).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return [part.detach().numpy() for part in parts]


def choose(ranker: Ranker, contest: Contest) -> int:
    """The index of the candidate that a ranker chooses."""
    return int(ranker(contest.candidates.features()).argmax())
