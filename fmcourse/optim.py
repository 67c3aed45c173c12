"""Optimisers: AdamW for everything, or Muon for the matrices inside the blocks; and learning-rate schedules.

Taught in `algorithm/training`.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fmcourse.checks import check_choice

Schedule = Literal["constant", "cosine", "trapezoid"]
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of Jordan et al. 2024


def orthogonalise(
    matrices: Float[Tensor, "n rows columns"],
    steps: int = 5,
    coefficients: tuple[float, float, float] = NEWTON_SCHULZ,
    eps: float = 1e-7,
) -> Float[Tensor, "n rows columns"]:
    """Replace each matrix U S V^T by roughly U V^T: every direction gets a step of the same size.

    A quintic Newton-Schulz iteration in bfloat16 moves all singular values to about 1 (0.7 to 1.2). Matrices of
    one shape are done in one batch, which is why this is faster than `torch.optim.Muon`'s loop.

    Taught in `algorithm/training`. Source: Jordan et al. 2024, "Muon".
    """
    a, b, c = coefficients
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.bfloat16()
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Muon):
    """torch's Muon, its step done for all matrices of one shape at once; options as in `torch.optim.Muon`.

    Taught in `algorithm/training`. Source: Jordan et al. 2024.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; every matrix that has a gradient moves."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            same_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    same_shape[p.shape].append(p)
            for shape, params in same_shape.items():
                grads = [p.grad for p in params if p.grad is not None]
                buffers = [self.state[p].setdefault("momentum_buffer", torch.zeros_like(p)) for p in params]
                torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
                moves = torch._foreach_lerp(grads, buffers, group["momentum"]) if group["nesterov"] else buffers
                directions = orthogonalise(
                    torch.stack(list(moves)), group["ns_steps"], group["ns_coefficients"], group["eps"]
                )
                rows, columns = shape
                like_adam = group["adjust_lr_fn"] == "match_rms_adamw"
                scale = 0.2 * math.sqrt(max(rows, columns)) if like_adam else math.sqrt(max(1, rows / columns))
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(params, list(directions.to(params[0].dtype)), alpha=-group["lr"] * scale)
        return loss


def make_optimizers(
    model: nn.Module,
    *,
    name: Literal["adamw", "muon"],
    lr: float,
    matrix_lr: float = 0.02,
    betas: tuple[float, float] = (0.9, 0.95),
    weight_decay: float = 0.1,
) -> list[torch.optim.Optimizer]:
    """The optimisers of a model; each group remembers its peak rate as "peak_lr".

    AdamW decays matrices and embeddings, not biases and gains. With "muon" the matrices inside the blocks go to
    `Muon` (at `matrix_lr`, no decay) and AdamW takes the rest.

    Taught in `algorithm/training`. Source: Loshchilov & Hutter 2019 (AdamW); Jordan et al. 2024 (Muon).
    """
    check_choice("name", name, ("adamw", "muon"))
    params = {n: p for n, p in model.named_parameters() if p.requires_grad}
    inside = {n: p for n, p in params.items() if p.ndim == 2 and "blocks." in n} if name == "muon" else {}
    rest = [p for n, p in params.items() if n not in inside]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)]
    if inside:
        optimizers.append(Muon(inside.values(), lr=matrix_lr, weight_decay=0.0))
    for group in (g for optimizer in optimizers for g in optimizer.param_groups):
        group["peak_lr"] = group["lr"]
    return optimizers


def schedule_factor(
    step: int,
    steps: int,
    *,
    schedule: Schedule = "cosine",
    warmup: int = 0,
    cooldown: float = 0.4,
    floor: float = 0.1,
) -> float:
    """Fraction of the peak learning rate at `step` of `steps`.

    A linear warm-up, then: "constant"; "cosine", half a wave down to `floor`; or "trapezoid", constant until the last
    `cooldown` (a fraction of all steps) and then a straight line down to `floor`.

    Taught in `algorithm/training`. Source: Loshchilov & Hutter 2017 (cosine); Hägele et al. 2024 (trapezoid).
    """
    check_choice("schedule", schedule, Schedule)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
    left = (steps - step) / max(1.0, cooldown * steps)
    return floor + (1 - floor) * min(1.0, max(0.0, left))


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Give every parameter group that fraction of its peak rate."""
    for group in (g for optimizer in optimizers for g in optimizer.param_groups):
        group["lr"] = group["peak_lr"] * factor
