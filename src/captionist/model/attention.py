"""Attention to a prefix that many captions of a picture share.

Captions in the making are R rows of T tokens each, pictures B. All rows look at all pictures, and what is not theirs is
dropped: to copy keys and values for every row would take longer than that takes to compute.
"""

import torch
from torch import Tensor


def prefix_scores(query: Tensor, keys: Tensor, picture: Tensor | None) -> Tensor:
    """How well queries fit the keys of their picture, unscaled: float [R, heads, T, P].

    query float [R, heads, T, w]; keys float [B, heads, P, w]; picture int64 [R], the row of `keys` of each, or None
    where there is only one picture.
    """
    rows, heads, length, _ = query.shape
    together = query.transpose(0, 1).flatten(1, 2)  # [heads, R * T, w]
    if picture is None:
        scores = together @ keys[0].transpose(1, 2)
        return scores.view(heads, rows, length, -1).transpose(0, 1)
    batch, _, prefix, _ = keys.shape
    products = together @ keys.transpose(2, 3)  # [B, heads, R * T, P]
    scores = products.view(batch, heads, rows, length, prefix).transpose(1, 2).flatten(0, 1)
    return scores.index_select(0, picture * rows + torch.arange(rows, device=picture.device))


def prefix_context(weights: Tensor, values: Tensor, picture: Tensor | None) -> Tensor:
    """What is found there: float [R, heads, T, w].

    weights float [R, heads, T, P], of attention; values float [B, heads, P, w]; picture as above.
    """
    rows, heads, length, _ = weights.shape
    if picture is None:
        found = weights.transpose(0, 1).flatten(1, 2) @ values[0]  # [heads, R * T, w]
        return found.view(heads, rows, length, -1).transpose(0, 1)
    own = picture == torch.arange(values.shape[0], device=picture.device)[:, None]  # [B, R]
    spread = weights * own[:, :, None, None, None].to(weights.dtype)
    found = spread.transpose(1, 2).flatten(2, 3) @ values  # [B, heads, R * T, w]
    return found.sum(0).view(heads, rows, length, -1).transpose(0, 1)


def causal(earlier: int, length: int, device: torch.device) -> Tensor:
    """bool [T, earlier + T]: which of so many earlier tokens (all) and of T new ones each new one may look at."""
    places = torch.arange(earlier + length, device=device)
    return places <= places[earlier:, None]
