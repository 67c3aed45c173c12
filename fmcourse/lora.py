"""LoRA: a trained change of low rank beside frozen matrices. Taught in `concepts/pretraining_and_finetuning`.

`add_lora` puts it in and freezes the rest; train as usual; `lora_state` is what one task has to store; `remove_lora`
gives back the old model, or a new one without extra layers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fmcourse.checks import check_positive


class LoRALinear(nn.Module):
    """A frozen linear layer W and beside it a change of low rank.

    x becomes W x + (alpha / rank) B A x. A (`a`) starts random and B (`b`)
    at zero, so at first nothing changes. `weight` and `bias` are those of
    the one linear layer that would do the same.

    Source: Hu et al. 2022, section 4.1.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        rows, columns = base.weight.shape
        if not 0 < rank <= (most := min(rows, columns)):
            raise ValueError(f"rank={rank} must be from 1 to {most} here")
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        start = torch.randn(rank, columns) / columns**0.5
        self.a = nn.Parameter(start.to(base.weight))
        self.b = nn.Parameter(torch.zeros(rows, rank).to(base.weight))

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """What the frozen layer says, plus the change."""
        change = F.linear(F.linear(x, self.a), self.b)
        return self.base(x) + self.scale * change

    @property
    def weight(self) -> Float[Tensor, "o i"]:
        """The matrix of the merged layer."""
        return self.base.weight + self.scale * (self.b @ self.a)

    @property
    def bias(self) -> Tensor | None:
        """The bias, which LoRA leaves as it is."""
        return self.base.bias


def add_lora(
    model: nn.Module,
    targets: Sequence[str],
    *,
    rank: int = 8,
    alpha: float = 16.0,
) -> nn.Module:
    """Freeze the model; put a `LoRALinear` in the place of linear layers.

    Args:
        targets: ends of their names: "query" or "feed_forward.up".

    Raises ValueError when the model has LoRA layers already, or a target
    names no linear layer.
    """
    check_positive("alpha", alpha)
    if _find(model, LoRALinear):
        raise ValueError("the model has LoRA layers: remove_lora first")
    linear, chosen = _find(model, nn.Linear), set()
    for end in targets:
        names = {n for n in linear if n and f".{n}".endswith(f".{end}")}
        if not names:
            known = ", ".join(sorted({n.split(".")[-1] for n in linear}))
            raise ValueError(f"no linear layer named {end!r}; only {known}")
        chosen |= names
    model.requires_grad_(False)
    for name in sorted(chosen):
        layer = LoRALinear(linear[name], rank, alpha)
        model.set_submodule(name, layer)
    return model


def remove_lora(model: nn.Module, *, merge: bool = False) -> nn.Module:
    """Put the linear layers back: as they were, bit for bit, or (`merge`) with the change added to their weights.

    Parameters stay frozen until you say otherwise.
    """
    for name, layer in _find(model, LoRALinear).items():
        if merge:
            layer.base.weight.data = layer.weight.detach()
        model.set_submodule(name, layer.base)
    return model


def lora_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the trained change, by name: all that one task needs to store beside the model (and its head)."""
    layers = _find(model, LoRALinear).items()
    return {f"{name}.{part}": getattr(layer, part).detach().clone() for name, layer in layers for part in ("a", "b")}


def load_lora(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put a stored change into the model's LoRA layers, in place of the one that is there.

    Raises ValueError when the names or shapes are not those of the model.
    """
    own = {
        f"{name}.{part}": getattr(layer, part)
        for name, layer in _find(model, LoRALinear).items()
        for part in ("a", "b")
    }
    if wrong := sorted(n for n in own.keys() | state.keys() if n not in own or n not in state):
        raise ValueError(f"the state and the model differ in {', '.join(wrong[:3])}: use the same targets")
    if wrong := sorted(n for n in own if own[n].shape != state[n].shape):
        raise ValueError(f"{wrong[0]} has shape {tuple(state[wrong[0]].shape)}, the model {tuple(own[wrong[0]].shape)}")
    for name, tensor in state.items():
        own[name].data.copy_(tensor)


def _find(model: nn.Module, kind: type[nn.Module]) -> dict[str, Any]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, kind)}
