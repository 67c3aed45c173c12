"""Beam search: keep the few most probable partial translations at every step, instead of the single best one.

Taught in `mathematics/translation_worked_example`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fmcourse.cache import KVCache
from fmcourse.checks import check_ids, check_positive
from fmcourse.data.translation import pad_right
from fmcourse.transformer import Seq2Seq


class Hypothesis(NamedTuple):
    """A finished output: its tokens (without start and end), its log-probability in nats, and what it is ranked by."""

    tokens: list[int]
    log_probability: float
    score: float


def length_penalty(length: int, alpha: float) -> float:
    """What a log-probability is divided by, so that long outputs are not punished for their length alone.

    Taught in `mathematics/translation_worked_example`. Source: Wu et al. 2016, eq. 14.
    """
    return float(((5 + length) / 6) ** alpha)


Partial = tuple[list[int], float]  # tokens so far, and their log-probability
OnStep = Callable[[int, list[Partial], Float[Tensor, "k v"]], None]


class Beams:
    """The beams of one source: partial outputs with their log-probabilities, and what is finished.

    Args:
        size, alpha: as in `beam_search`.
        longest: an output has so many tokens at most.
        end: the token that finishes an output.

    Taught in `mathematics/translation_worked_example`.
    """

    def __init__(self, size: int, alpha: float, longest: int, end: int) -> None:
        self.size, self.alpha, self.longest, self.end = size, alpha, longest, end
        self.finished: list[Hypothesis] = []
        self.running: list[Partial] = [([], 0.0)]
        self.done = False

    def finish(self, tokens: list[int], log_probability: float, length: int) -> None:
        """Put an output among the finished, if it is good enough."""
        score = log_probability / length_penalty(length, self.alpha)
        self.finished.append(Hypothesis(tokens, log_probability, score))
        self.finished.sort(key=lambda found: -found.score)
        del self.finished[self.size :]

    def grow(self, candidates: Sequence[tuple[float, int, int]]) -> list[int]:
        """Take the next tokens: (log-probability, beam, token), best first; returns which beam each one continues."""
        parents: list[int] = []
        running: list[Partial] = []
        for rank, (log_probability, beam, token) in enumerate(candidates):
            tokens = self.running[beam][0]
            if token == self.end:
                if rank < self.size:
                    self.finish(tokens, log_probability, len(tokens) + 1)
            elif len(running) < self.size:
                running.append(([*tokens, token], log_probability))
                parents.append(beam)
        self.running = running
        # Probabilities only fall. When even the kindest penalty ahead cannot lift the best, nothing will change.
        reachable = running[0][1] / length_penalty(self.longest, self.alpha)
        self.done = len(self.finished) == self.size and reachable <= self.finished[-1].score
        return parents

    def close(self) -> list[Hypothesis]:
        """What is finished, best first; when the search was cut short, what is unfinished counts as it stands."""
        if not self.done:
            for partial, log_probability in self.running:
                self.finish(partial, log_probability, len(partial))
        return self.finished


@torch.inference_mode()
def beam_search(
    model: Seq2Seq,
    sources: Sequence[Sequence[int]],
    *,
    start: int,
    end: int,
    max_new_tokens: int,
    beam_size: int = 4,
    alpha: float = 0.6,
    on_step: OnStep | None = None,
) -> list[list[Hypothesis]]:
    """The best outputs for every source, best first, at most `beam_size` each.

    A finished output is ranked by log p / `length_penalty`. The search ends when no partial output could still overtake
    the worst of the finished ones, or after `max_new_tokens` (what is unfinished then counts as it stands).
    With `beam_size=1` and `alpha=0` this is greedy search.

    Args:
        sources: token ids, one list each; they may differ in length.
        start, end: the id that the decoder reads first, and the one that it writes last.
        alpha: strength of the length penalty; 0 ranks by probability alone.
        on_step: called before each choice with the number of the source, its partial outputs, and the log-probability
            of every token after each of them: what the search knew.

    Raises ValueError for an empty source, an id out of range, an option that is not positive, or more tokens than the
    model's context.

    Taught in `mathematics/translation_worked_example`. Source: Wu et al. 2016, section 7.
    """
    config, device = model.config, next(model.parameters()).device
    check_positive("beam_size", beam_size)
    check_positive("max_new_tokens", max_new_tokens)
    if not alpha >= 0:
        raise ValueError(f"alpha must be 0 or more; got {alpha}")
    if max_new_tokens > config.context:
        raise ValueError(f"max_new_tokens={max_new_tokens} is more than this model's context of {config.context}")
    if not sources or not all(len(source) for source in sources):
        raise ValueError(f"every source needs at least one token; got lengths {[len(source) for source in sources]}")
    ids, real = (side.to(device) for side in pad_right(sources, end))
    check_ids("token id", torch.tensor([start, end, *ids.flatten().tolist()]), "vocab_size", config.vocab_size)
    was_training = model.training
    model.eval()
    try:
        return _search(model, ids, real, start, end, max_new_tokens, beam_size, alpha, on_step)
    finally:
        model.train(was_training)


def _search(
    model: Seq2Seq,
    ids: Int[Tensor, "b n"],
    real: Bool[Tensor, "b n"],
    start: int,
    end: int,
    max_new_tokens: int,
    beam_size: int,
    alpha: float,
    on_step: OnStep | None,
) -> list[list[Hypothesis]]:
    searches = [Beams(beam_size, alpha, max_new_tokens, end) for _ in ids]
    cache = KVCache(model.config.n_layers, max_new_tokens)
    memory = model.encode(ids, source_real=real)
    # Row i of the decoder's batch is beam `beam` of search `owner`; at first each search has a single, empty beam.
    owners = list(range(len(searches)))
    tokens = torch.full((len(owners), 1), start, device=ids.device)
    for _ in range(max_new_tokens):
        read = {"source": ids} if getattr(model, "reads_source", False) else {}  # `fmcourse.pointer`
        logits = model.decode(tokens, memory, source_real=real, cache=cache, **read)[:, -1]
        log_probabilities = logits.double().log_softmax(dim=-1)
        best = log_probabilities.topk(min(2 * beam_size, logits.shape[-1]))  # `beam_size` may end, so enough go on
        pairs = [list(zip(*row, strict=True)) for row in zip(best.values.tolist(), best.indices.tolist(), strict=True)]
        rows: list[int] = []
        following: list[int] = []
        first = 0
        for i in dict.fromkeys(owners):
            search, count = searches[i], owners.count(i)
            if on_step is not None:
                on_step(i, list(search.running), log_probabilities[first : first + count])
            totals = [
                (so_far + value, beam, token)
                for beam, (_, so_far) in enumerate(search.running)
                for value, token in pairs[first + beam]
            ]
            parents = search.grow(sorted(totals, key=lambda candidate: -candidate[0])[: 2 * beam_size])
            if not search.done:
                rows += [first + parent for parent in parents]
                following += [tokens[-1] for tokens, _ in search.running]
            first += count
        if not rows:
            break
        if rows != list(range(len(owners))):  # else everyone stays in place
            index = torch.tensor(rows, device=ids.device)
            owners = [owners[row] for row in rows]
            cache.select(index)
            memory, real, ids = memory[index], real[index], ids[index]
        tokens = torch.tensor(following, device=ids.device)[:, None]
    return [search.close() for search in searches]
