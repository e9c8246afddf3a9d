"""Attention to a prefix that many captions of a picture share.

R rows, the unfinished captions of B pictures, read T tokens each. Every row looks at every picture, and the results
for other pictures are dropped: that is faster than copying keys and values for every row.
"""

import torch
from torch import Tensor


def prefix_scores(query: Tensor, keys: Tensor, picture: Tensor | None) -> Tensor:
    """How well queries fit the keys of their picture, unscaled: float [R, heads, T, P].

    query float [R, heads, T, w]; keys float [B, heads, P, w]; picture int64 [R], the row of `keys` for each, or None
    if there is only one picture.
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
    """The values of their picture, weighted by attention: float [R, heads, T, w].

    weights float [R, heads, T, P]; values float [B, heads, P, w]; picture as above.
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
    """bool [T, earlier + T]: each of T new tokens may look at all earlier ones, and at new ones up to itself."""
    places = torch.arange(earlier + length, device=device)
    return places <= places[earlier:, None]
