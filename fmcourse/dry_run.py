"""What a training step needs, found out without allocating or computing anything: on torch's meta device.

Taught in `practice/environment`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from fmcourse.checks import check_positive
from fmcourse.recipes import Recipe
from fmcourse.training import summed_loss


@dataclass(frozen=True)
class StepNeeds:
    """Sizes of one training step of one process, in bytes where nothing else is said.

    Args:
        parameters: trained numbers.
        micro_batch: examples that go through the model at once.
        tokens: targets in the whole batch of a step.
        logits: shape of the model's output.
        weights, gradients, optimizer: what stays from step to step, in float32.
        activations: what the forward pass keeps for the backward pass, with a fused attention kernel and in float32.
            In bf16 or fp16 it is about half: this is an upper bound.
        flops: multiplications and additions in the matrix products of the whole batch, forward and backward.
    """

    parameters: int
    micro_batch: int
    tokens: int
    logits: tuple[int, ...]
    weights: int
    gradients: int
    optimizer: int
    activations: int
    flops: int

    @property
    def memory(self) -> int:
        """Bytes in all: an upper bound, without the workspace of the kernels."""
        return self.weights + self.gradients + self.optimizer + self.activations

    def __str__(self) -> str:
        parts = {name: getattr(self, name) / 2**30 for name in ("weights", "gradients", "optimizer", "activations")}
        return "\n".join(
            [
                f"parameters    {self.parameters:,}",
                f"micro-batch   {self.micro_batch} examples, logits {self.logits}; {self.tokens:,} tokens a step",
                f"memory        {self.memory / 2**30:.2f} GiB at most: "
                + ", ".join(f"{name} {size:.2f}" for name, size in parts.items()),
                f"arithmetic    {self.flops:.3g} floating-point operations a step",
            ]
        )


class FusedAttention(TorchFunctionMode):
    """A context in which attention takes the fused kernel, as in training: on the meta device torch would take the one
    that keeps every weight.

    Taught in `practice/environment`.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            mask = kwargs.get("attn_mask")
            mask = mask if mask is None else mask.to(args[0].dtype)  # the kernel adds numbers, not truth values
            return _FUSED(*args[:3], 0.0, kwargs.get("is_causal", False), attn_mask=mask)[0]
        return func(*args, **(kwargs or {}))


_FUSED = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_FUSED_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def _forward_flops(q: Any, k: Any, v: Any, *rest: Any, **options: Any) -> int:
    return sdpa_flop_count(q, k, v)  # type: ignore[no-untyped-call]


def _backward_flops(gradient: Any, q: Any, k: Any, v: Any, *rest: Any, **options: Any) -> int:
    return sdpa_backward_flop_count(gradient, q, k, v)  # type: ignore[no-untyped-call]


FUSED_FLOPS: dict[Any, Callable[..., int]] = {_FUSED: _forward_flops, _FUSED_BACKWARD: _backward_flops}
"""Operations of the fused kernel from the shapes of its arguments, which torch's counter does not know."""


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum({_storage(t): t.untyped_storage().nbytes() for t in tensors}.values())


def dry_run(recipe: Recipe, *, n_processes: int = 1) -> StepNeeds:
    """One step of the recipe on the meta device: forward, backward and optimiser, with shapes and no numbers.

    Args:
        n_processes: how many share a batch under `torchrun`.

    Raises ValueError when the batch cannot be shared evenly, or a shape does not fit.
    """
    check_positive("n_processes", n_processes)
    train, shares = recipe.train, recipe.train.accumulate * n_processes
    if train.batch_size % shares:
        raise ValueError(
            f"batch_size={train.batch_size} must be divisible by accumulate={train.accumulate} times "
            f"n_processes={n_processes}"
        )
    with torch.device("meta"):
        model = recipe.build()
    own = {_storage(p) for p in model.parameters()}
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in own:
            kept.append(tensor)
        return tensor

    batch = recipe.example(train.batch_size // shares)
    with FlopCounterMode(display=False, custom_mapping=FUSED_FLOPS) as counter, FusedAttention():
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = summed_loss(model, batch, train.label_smoothing)
        activations = _bytes(kept)
        loss.backward()  # type: ignore[no-untyped-call]
    optimizers = train.optimizers(model)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["fused"] = False  # the fused kernel needs numbers; what it stores is the same
        optimizer.step()
    state = [
        value
        for optimizer in optimizers
        for entry in optimizer.state.values()
        for value in entry.values()
        if isinstance(value, Tensor)
    ]
    parameters = list(model.parameters())
    with torch.no_grad():
        logits = model(**recipe.example(1).inputs).shape
    return StepNeeds(
        parameters=sum(p.numel() for p in parameters),
        micro_batch=len(batch),
        tokens=train.batch_size * batch.targets.shape[1],
        logits=(len(batch), *logits[1:]),
        weights=_bytes(parameters),
        gradients=_bytes([p.grad for p in parameters if p.grad is not None]),
        optimizer=_bytes(state),
        activations=activations,
        flops=counter.get_total_flops() * shares,
    )
