"""Beam search step by step: which partial translations are kept, which are dropped, and what wins."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import traitlets
from torch import Tensor

from fmcourse.beam_search import Beams, Hypothesis, Partial
from fmcourse.translator import Translator
from fmcourse.widgets.base import Widget


class BeamLattice(Widget):
    """The beam search of a few sentences, for every beam size and length penalty that the reader may choose.

    The page searches for itself, exactly as `fmcourse.beam_search.beam_search` does: it carries, for every partial
    output that one of the searches meets, the most probable next tokens with their log-probabilities.

    Args:
        translator: the model, with its tokenizer.
        sentences: what is translated.
        beam_sizes, alphas: what the reader may choose from, in increasing order.
        longest: no output gets more tokens (`max_new_tokens`).

    Raises ValueError when there is no sentence. Taught in `mathematics/translation_worked_example`.
    """

    _module = "beam_lattice"
    significant_digits = 9

    label = traitlets.Unicode("Beam search, step by step: what is kept, what is dropped, what wins").tag(sync=True)
    labels = traitlets.Dict(
        {
            "sentence": "Sentence",
            "beam_size": "Beam size",
            "alpha": "Length penalty α",
            "first": "Start",
            "back": "Back",
            "forward": "Forward",
            "last": "End",
            "step": "step",
            "of": "of",
            "start": "start",
            "end": "end",
            "nothing": "(nothing)",
            "drawing": "The search so far, as a drawing",
            "candidates": "Candidates of this step, most probable first",
            "rank": "rank",
            "text": "text",
            "log_probability": "log p",
            "fate": "fate",
            "kept": "kept",
            "finished": "finished",
            "dropped": "dropped",
            "late": "ended, but too far down",
            "finished_so_far": "Finished so far, best score first",
            "tokens": "tokens",
            "score": "score",
            "best": "Best finished",
            "none_yet": "nothing is finished yet",
            "over": "the search is over",
        }
    ).tag(sync=True)
    sentences = traitlets.List(traitlets.Unicode()).tag(sync=True)
    nodes: traitlets.List[Any] = traitlets.List(
        help="For each sentence its partial outputs: [parent, token, [next token, log-probability, ...]]; 0 is empty."
    ).tag(sync=True)
    texts = traitlets.Dict(help="Text of every token that occurs, by its id.").tag(sync=True)
    end = traitlets.Int().tag(sync=True)
    longest = traitlets.Int().tag(sync=True)
    beam_sizes = traitlets.List(traitlets.Int()).tag(sync=True)
    alphas = traitlets.List(traitlets.Float()).tag(sync=True)
    sentence = traitlets.Int(0).tag(sync=True)
    beam_size = traitlets.Int().tag(sync=True)
    alpha = traitlets.Float().tag(sync=True)
    step = traitlets.Int(1).tag(sync=True)

    def __init__(
        self,
        translator: Translator,
        sentences: Sequence[str],
        *,
        beam_sizes: Sequence[int] = (1, 2, 3, 4, 5),
        alphas: Sequence[float] = (0.0, 0.3, 0.6, 1.0, 1.5),
        longest: int = 20,
        **kwargs: Any,
    ) -> None:
        if not sentences:
            raise ValueError("sentences is empty; give at least one")
        width = 2 * max(beam_sizes)  # no search takes more of what may follow one partial output
        met: list[dict[tuple[int, ...], list[float]]] = [{} for _ in sentences]

        def note(i: int, partials: list[Partial], log_probabilities: Tensor) -> None:
            best = log_probabilities.topk(width)
            for (tokens, _), values, following in zip(partials, *(side.tolist() for side in best), strict=True):
                pairs = [x for pair in zip(following, values, strict=True) for x in pair]
                met[i].setdefault(tuple(tokens), pairs)

        for beam_size, alpha in product(beam_sizes, alphas):
            translator.search(sentences, beam_size=beam_size, alpha=alpha, max_new_tokens=longest, on_step=note)
        used = {int(token) for tree in met for pairs in tree.values() for token in pairs[::2]} - {translator.end}
        start = {"beam_size": beam_sizes[0], "alpha": alphas[0]}
        super().__init__(
            sentences=list(sentences),
            nodes=[_as_nodes(tree) for tree in met],
            texts={str(token): translator.decode([token]) for token in sorted(used)},
            end=translator.end,
            longest=longest,
            beam_sizes=list(beam_sizes),
            alphas=list(alphas),
            **{**start, **kwargs},
        )

    def search(self, sentence: int, beam_size: int, alpha: float) -> list[Hypothesis]:
        """What the page finds for that sentence and those choices, best first."""
        search = Beams(beam_size, alpha, self.longest, self.end)
        nodes = self.nodes[sentence]
        children = {(parent, token): i for i, (parent, token, _) in enumerate(nodes) if i}
        places, parents = [0], [0]
        for step in range(self.longest):
            if step:  # where the partial outputs that were kept stand in the tree
                kept = zip(parents, search.running, strict=True)
                places = [children[places[parent], tokens[-1]] for parent, (tokens, _) in kept]
            every = [
                (so_far + value, beam, int(token))
                for beam, (place, (_, so_far)) in enumerate(zip(places, search.running, strict=True))
                for token, value in zip(nodes[place][2][::2], nodes[place][2][1::2], strict=True)
            ]
            parents = search.grow(sorted(every, key=lambda candidate: -candidate[0])[: 2 * beam_size])
            if search.done:
                break
        return search.close()


def _as_nodes(tree: dict[tuple[int, ...], list[float]]) -> list[list[Any]]:
    """Partial outputs by number: parent, last token, what may follow."""
    order = sorted(tree, key=lambda tokens: (len(tokens), tokens))
    number = {tokens: i for i, tokens in enumerate(order)}
    return [[number[t[:-1]] if t else -1, t[-1] if t else -1, tree[t]] for t in order]
