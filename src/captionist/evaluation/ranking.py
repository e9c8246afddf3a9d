"""How a ranker learns to choose: towards the CIDEr-D that its choices can be expected to have.

The objective is the expectation under the softmax of the scores, plus a little of their entropy, so that candidates of
like CIDEr-D stay close; plain regression on CIDEr-D chose worse. Some hundred pictures are few: the net is small,
weights decay, and several nets are averaged into one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captionist.inference.candidates import Candidates
from captionist.inference.ranker import Ranker

Floats = NDArray[np.float32]
_SCALE = 100.0  # of CIDEr-D times 100
_FIRST, _SECOND = 0.9, 0.99  # Adam's
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

    hidden: units of each of so many nets. entropy: how much of it is worth as much as 100 CIDEr-D. decay: of the
    weights; rate: at the first of so many steps, of Adam over all contests.
    """

    hidden: int = 8
    entropy: float = 0.1
    decay: float = 1.0
    nets: int = 6
    rate: float = 0.03
    steps: int = 80


def fit_ranker(contests: Sequence[Contest], names: Sequence[str], setting: Setting, seed: int = 0) -> Ranker:
    """Fit a ranker by these features. A corpus with four times as many pictures as another has twice its weight."""
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
    generator = np.random.default_rng(seed)
    nets = [_fit(inputs, values, mask, weights / weights.sum(), setting, generator) for _ in range(setting.nets)]
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
    inputs: Floats, values: Floats, mask: Floats, weights: Floats, setting: Setting, generator: np.random.Generator
) -> list[Floats]:
    """One net's linear [F], hidden [F, H], bias and out [H]. inputs: [P, N, F]; mask: [P, N], added to the scores."""
    pictures, most, width = inputs.shape
    x = inputs.reshape(-1, width)
    shapes = {"linear": width, "hidden": (width, setting.hidden), "bias": setting.hidden, "out": setting.hidden}
    scales = {"linear": 0.05, "hidden": width**-0.5, "bias": 0.0, "out": 0.05}
    parts = [generator.normal(0, scales[name], shape).astype(np.float32) for name, shape in shapes.items()]
    first, second = ([np.zeros_like(part) for part in parts] for _ in range(2))
    for step in range(setting.steps):
        linear, hidden, bias, out = parts
        units = np.tanh(x @ hidden + bias)
        scores = (x @ linear + units @ out).reshape(pictures, most) + mask
        logs = scores - scores.max(axis=1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
        shares = np.exp(logs)
        gain = (values - (shares * values).sum(axis=1, keepdims=True)) / np.float32(_SCALE)
        spread = logs - (shares * logs).sum(axis=1, keepdims=True)
        slope = (weights[:, None] * shares * (np.float32(setting.entropy) * spread - gain)).reshape(-1)
        inner = (slope[:, None] * out) * (1 - units * units)
        gradients = [slope @ x, x.T @ inner, inner.sum(axis=0), slope @ units]
        rate = setting.rate * (1 + np.cos(np.pi * step / setting.steps)) / 2
        for place, gradient in enumerate(gradients):
            first[place] = _FIRST * first[place] + (1 - _FIRST) * gradient
            second[place] = _SECOND * second[place] + (1 - _SECOND) * gradient**2
            mean, square = first[place] / (1 - _FIRST ** (step + 1)), second[place] / (1 - _SECOND ** (step + 1))
            change = rate * mean / (np.sqrt(square) + 1e-8)
            parts[place] = (parts[place] * (1 - rate * setting.decay) - change).astype(np.float32)
    return parts


def choose(ranker: Ranker, contest: Contest) -> int:
    """The place of the candidate that a ranker chooses."""
    return int(ranker(contest.candidates.features()).argmax())
