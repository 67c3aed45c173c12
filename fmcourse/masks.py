"""Masks: which query may attend to which key. True always means "may attend".

Taught in `mathematics/multi_head_and_masks`.
"""

import torch
from jaxtyping import Bool
from torch import Tensor


def causal_mask(t: int, s: int, device: torch.device | None = None) -> Bool[Tensor, "t s"]:
    """True where key <= query, for the last `t` of `s` positions. Taught in `mathematics/multi_head_and_masks`."""
    return torch.ones(t, s, dtype=torch.bool, device=device).tril(s - t)


def visible(
    t: int, s: int, *, causal: bool, real: Bool[Tensor, "b s"] | None, device: torch.device
) -> Bool[Tensor, "#b 1 t s"] | None:
    """Which of `s` keys each of the last `t` queries may attend to, padding left out; None means every one."""
    past = causal_mask(t, s, device) if causal else None
    if real is None:
        return past
    text = real[:, None, None, :]
    if past is None:
        return text
    # Padding on the left sees nothing real; let it see itself, so that no row is empty.
    here = torch.arange(s, device=device)
    return (text & past) | (here[s - t :, None] == here)


def check_may_attend(may_attend: Tensor, shape: tuple[int, ...]) -> None:
    """Raise unless `may_attend` is boolean, broadcasts to `shape` (..., t, s) and leaves every query a key."""
    if may_attend.dtype != torch.bool:
        raise TypeError(f"may_attend must be boolean (True = may attend); got {may_attend.dtype}")
    fits = may_attend.ndim <= len(shape) and all(
        given in (1, wanted) for given, wanted in zip(reversed(may_attend.shape), reversed(shape), strict=False)
    )
    if not fits:
        raise ValueError(
            f"may_attend has shape {tuple(may_attend.shape)}, which does not broadcast to {shape} (..., t, s)"
        )
    # Looking at values would break a compiled graph in two, where the eager run has looked already; meta has none.
    if not (may_attend.is_meta or torch.compiler.is_compiling()) and not bool(may_attend.any(dim=-1).all()):
        row = (~may_attend.any(dim=-1)).nonzero()[0].tolist()
        raise ValueError(f"may_attend leaves query {row} no key to attend to; every row needs at least one True")


def check_real(real: Tensor, batch: int, length: int) -> None:
    """Raise unless `real` is a boolean (b s) mask with at least one True in every row."""
    if real.dtype != torch.bool or tuple(real.shape) != (batch, length):
        raise ValueError(
            f"real must be boolean of shape {(batch, length)} (True = text, False = padding); "
            f"got {real.dtype} of shape {tuple(real.shape)}"
        )
    if not (real.is_meta or torch.compiler.is_compiling()) and not bool(real.any(dim=1).all()):
        row = int((~real.any(dim=1)).nonzero()[0])
        raise ValueError(f"real has no True in row {row}: a sequence of padding alone has nothing to attend to")
