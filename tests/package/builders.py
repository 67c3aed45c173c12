"""What several test modules build: small random models, gradients to compare, and the loaded references."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fmcourse.config import TransformerConfig
from fmcourse.data.text import LanguageModelData
from fmcourse.tokenizers import CharacterTokenizer
from fmcourse.training import TrainConfig
from fmcourse.transformer import GPT

ROOT = Path(__file__).resolve().parents[2]
POSITIONS = ("none", "learned", "sinusoidal", "rotary", "alibi")
Module = TypeVar("Module", bound=nn.Module)


def config(**changes: Any) -> TransformerConfig:
    """A small configuration whose sizes are all different."""
    sizes = {"vocab_size": 23, "context": 17, "d_model": 24, "n_layers": 2, "n_heads": 6, "d_ff": 40}
    return TransformerConfig(**{**sizes, **changes})


def randomise(model: Module, seed: int = 0, scale: float = 0.3) -> Module:
    """Draw every parameter anew, gains and biases too, so that no term can hide behind a zero or a one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype) * scale + (0.5 if p.ndim == 1 else 0.0))
    return model.eval()


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers that can receive a gradient."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def ids(vocab_size: int, *shape: int, seed: int = 0) -> Tensor:
    """Random token ids."""
    return torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def random_mask(*shape: int, seed: int = 0) -> Tensor:
    """A random boolean mask in which every row has a True."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6
    keep = torch.randint(shape[-1], shape[:-1], generator=torch.Generator().manual_seed(seed + 1))
    return mask.scatter(-1, keep[..., None], torch.ones_like(keep[..., None], dtype=torch.bool))


def padding(lengths: Sequence[int], width: int, side: str = "right") -> Tensor:
    """Which positions hold text, for sequences of those lengths."""
    place, n = torch.arange(width), torch.tensor(lengths)[:, None]
    return place < n if side == "right" else place >= width - n


def gradients(output: Tensor, of: Iterable[Tensor], seed: int = 7) -> list[Tensor]:
    """Gradients of a random linear function of the output."""
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed), dtype=output.dtype)
    return list(torch.autograd.grad((output * weights).sum(), list(of), retain_graph=True))


def assert_same(given: Any, wanted: Any, atol: float = 1e-12) -> None:
    """Equal shapes and values (tensors, or lists of them) to an absolute tolerance."""
    torch.testing.assert_close(given, wanted, atol=atol, rtol=0.0, check_dtype=False)


def small_text(length: int = 3000) -> str:
    """Words of a tiny language, drawn by a fixed seed: a model learns their spelling within a few dozen steps."""
    draws = random.Random(5)
    words = ("the", "cat", "dog", "sat", "on", "under", "a", "mat", "tree", "and", "ran", "home")
    return " ".join(draws.choice(words) for _ in range(length))[:length]


def small_data(context: int = 17, seed: int = 3) -> LanguageModelData:
    """That language in windows of characters; its alphabet has 14 letters and a space."""
    text = small_text()
    tokenizer = CharacterTokenizer(text, byte_fallback=False)
    return LanguageModelData(text[:2500], text[2500:], tokenizer=tokenizer, context=context, seed=seed)


def small_model(seed: int = 0, **changes: Any) -> GPT:
    """A fresh GPT for `small_data`, with its ordinary initialisation."""
    torch.manual_seed(seed)
    return GPT(config(**{"vocab_size": small_data().tokenizer.vocab_size, **changes}))


def small_training(**changes: Any) -> TrainConfig:
    """A short training run in float32."""
    usual = {"steps": 12, "batch_size": 6, "lr": 3e-3, "warmup": 2, "eval_every": 5, "precision": "fp32"}
    return TrainConfig(**{**usual, **changes})


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's weights."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
