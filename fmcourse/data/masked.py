"""Masked language modelling: windows of text in which some tokens are hidden, to be guessed from both sides.

Taught in `practice/train_bert`.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from tokenizers import Tokenizer
from torch import Tensor

from fmcourse.checks import check_positive
from fmcourse.data.batch import IGNORE, Batch

Ids = Tensor | np.ndarray


class Rule(NamedTuple):
    """What becomes of a chosen token: a mask, a random token, or (the rest) itself. BERT's own rule by default.

    Taught in `practice/train_bert`. Source: Devlin et al. 2019, section 3.1.
    """

    mask: float = 0.8
    random: float = 0.1


BERT_RULE = Rule()


class Vocabulary(NamedTuple):
    """What must be known of a BERT tokenizer to hide its tokens.

    Args:
        size: number of ids.
        mask: the id that hides a token.
        n_special: ids below are special ([PAD], [MASK], ...): never hidden, never put in another's place.
        continues: (v) booleans: which ids continue the word of the token before.

    Taught in `practice/train_bert`.
    """

    size: int
    mask: int
    n_special: int
    continues: Bool[Tensor, " v"]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Vocabulary":
        """Read it off a WordPiece tokenizer, ours or a published one.

        Raises ValueError when the tokenizer has no [MASK].
        """
        mask, size = tokenizer.token_to_id("[MASK]"), tokenizer.get_vocab_size()
        if mask is None:
            raise ValueError("the tokenizer has no [MASK]: it is not a BERT's")
        names = [tokenizer.id_to_token(i) or "" for i in range(size)]
        special = [i for i, name in enumerate(names) if re.fullmatch(r"\[(PAD|UNK|CLS|SEP|MASK|unused\d+)\]", name)]
        return cls(size, mask, max(special) + 1, torch.tensor([name.startswith("##") for name in names]))


def packed(tokenizer: Tokenizer, texts: Iterable[str], *, at_once: int = 1000) -> Int[np.ndarray, " n"]:
    """The texts one after the other as one array of ids (uint16), each between the tokenizer's own marks.

    Taught in `practice/train_bert`.
    """
    tokenizer.no_truncation()
    left, parts = iter(texts), [np.zeros(0, dtype=np.uint16)]
    while some := list(islice(left, at_once)):
        parts.append(np.fromiter(chain.from_iterable(one.ids for one in tokenizer.encode_batch(some)), np.uint16))
    return np.concatenate(parts)


def n_gaps(share: float, length: int) -> int:
    """How many of `length` tokens are chosen: at least one, and never all. Taught in `practice/train_bert`."""
    return min(max(round(share * length), 1), length - 1)


def choose(
    ids: Int[Tensor, "b t"],
    share: float,
    generator: torch.Generator,
    vocabulary: Vocabulary,
    *,
    whole_words: bool = False,
) -> Bool[Tensor, "b t"]:
    """Which tokens are chosen: that share of each row, drawn at random; special ones never.

    With `whole_words`, all tokens of a word are chosen or none; a row may then have
    fewer of them, never more.

    Taught in `practice/train_bert`. Source: Devlin et al. 2019, section 3.1; whole words
    as in its released code.
    """
    draw = torch.rand(ids.shape, generator=generator)
    if whole_words:
        begins = ~vocabulary.continues[ids]
        word = begins.cumsum(dim=1).clamp(max=ids.shape[1] - 1)
        draw = draw.gather(1, word)  # the tokens of a word share one draw
    draw = draw.masked_fill(ids < vocabulary.n_special, 1.0)
    first_left_out = draw.sort(dim=1).values[:, n_gaps(share, ids.shape[1])]
    return draw < first_left_out[:, None]


def hide(
    ids: Int[Tensor, "b t"],
    chosen: Bool[Tensor, "b t"],
    generator: torch.Generator,
    vocabulary: Vocabulary,
    *,
    rule: Rule = BERT_RULE,
) -> Int[Tensor, "b t"]:
    """The tokens as the model is shown them: the chosen ones masked, replaced or left.

    Taught in `practice/train_bert`. Source: Devlin et al. 2019, section 3.1.
    """
    draw = torch.rand(ids.shape, generator=generator)
    lowest, size = vocabulary.n_special, vocabulary.size
    others = torch.randint(lowest, size, ids.shape, generator=generator)
    replaced = torch.where(draw < rule.mask, vocabulary.mask, others)
    return torch.where(chosen & (draw < rule.mask + rule.random), replaced, ids)


class MaskedLanguageData:
    """Windows of text with tokens hidden: a `DataSource` for `fmcourse.masked_lm.MaskedLM`.

    A step's windows, and what is hidden in them, are drawn from (seed, step), so that a window that comes again has
    other gaps (RoBERTa's dynamic masking). Validation windows are evenly spaced, with gaps that never change.

    Args:
        train, validation, test: token ids, any integer array (a memory map too).
        vocabulary: of the tokenizer.
        context: window length in tokens.
        share: of the tokens that are chosen.
        rule: what becomes of them.
        whole_words: choose words, not single tokens.
        seed: of everything that is drawn.

    Raises:
        ValueError: a share is no probability, or a text is shorter than a window.

    Taught in `practice/train_bert`. Source: Devlin et al. 2019, section 3.1; Liu et al. 2019, section 4.1.
    """

    def __init__(
        self,
        train: Ids,
        validation: Ids,
        *,
        vocabulary: Vocabulary,
        context: int,
        share: float = 0.15,
        rule: Rule = BERT_RULE,
        whole_words: bool = False,
        test: Ids | None = None,
        seed: int = 0,
    ) -> None:
        if context < 2:
            raise ValueError(f"context must be at least 2: a gap and something beside it; got {context}")
        if not 0 < share < 1:
            raise ValueError(f"share must be between 0 and 1; got {share}")
        if min(rule) < 0 or sum(rule) > 1:
            raise ValueError(f"rule must hold probabilities with a sum of at most 1; got {tuple(rule)}")
        for name, ids in {"train": train, "validation": validation, "test": test}.items():
            if ids is not None and len(ids) < context:
                raise ValueError(f"{name} has {len(ids)} tokens; context={context} needs at least so many")
        self.train_ids, self.validation_ids, self.test_ids = train, validation, test
        self.vocabulary, self.context, self.seed = vocabulary, context, seed
        self.share, self.rule, self.whole_words = share, rule, whole_words

    def _masked(self, ids: Ids, starts: Tensor, generator: torch.Generator) -> Batch:
        places = starts[:, None] + torch.arange(self.context)
        windows = torch.from_numpy(np.asarray(ids)[places.numpy()].astype(np.int64))
        chosen = choose(windows, self.share, generator, self.vocabulary, whole_words=self.whole_words)
        shown = hide(windows, chosen, generator, self.vocabulary, rule=self.rule)
        # The places of the chosen tokens, from left to right; a row with fewer is filled up with what is not scored.
        order = chosen.byte().argsort(dim=1, descending=True, stable=True)[:, : n_gaps(self.share, self.context)]
        return Batch({"tokens": shown, "gaps": order}, torch.where(chosen, windows, IGNORE).gather(1, order))

    def batch(self, step: int, size: int) -> Batch:
        """`size` random windows with random gaps, the same at every call with the same step."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        starts = torch.randint(len(self.train_ids) - self.context + 1, (size,), generator=generator)
        return self._masked(self.train_ids, starts, generator)

    def _spread(self, ids: Ids, size: int, limit: int | None) -> Iterator[Batch]:
        available = len(ids) // self.context
        count = available if limit is None else min(limit, available)
        starts = torch.arange(count) * available // count * self.context
        whole = self._masked(ids, starts, torch.Generator().manual_seed(0))  # so the gaps do not depend on `size`
        for start in range(0, count, size):
            yield whole[start : start + size]

    def validation(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Batches of evenly spaced validation windows with fixed gaps, `limit` in all (every window when None)."""
        check_positive("size", size)
        return self._spread(self.validation_ids, size, limit)

    def test(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Batches of evenly spaced test windows with fixed gaps, `limit` in all (every window when None).

        Raises ValueError when no test text was given.
        """
        if self.test_ids is None:
            raise ValueError("there is no test text; give MaskedLanguageData one with test=...")
        return self._spread(self.test_ids, size, limit)
