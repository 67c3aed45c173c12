"""The exercise of `mathematics/translation_worked_example`: word links, the best of all sentences, and BLEU."""

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fmcourse.exercises.compare import difference
from fmcourse.exercises.spec import Case, Draw, Exercise, Misconception, Question

Pairs = list[tuple[list[int], list[int]]]
Links = list[tuple[int, int]]
Partial = tuple[list[int], float]  # words, and their log-probability


def em_step(table: Tensor, pairs: Pairs) -> Tensor:
    """One round of IBM model 1: P(target word | source word), a row for each source word, before and after."""
    counts = torch.zeros_like(table)
    for source, target in pairs:
        for word in target:
            shares = table[source, word] / table[source, word].sum()
            counts[:, word].index_add_(0, torch.tensor(source), shares)
    return counts / counts.sum(dim=1, keepdim=True)


def links_found(weights: Tensor, links: Links) -> Tensor:
    """The share of links (source place, target place) found by each head: weights (h, t + 1, s) give (h)."""
    top = weights.argmax(dim=-1)
    return torch.stack([top[:, j] == i for i, j in links]).float().mean(dim=0)


def score(sentence: list[int], table: Tensor, alpha: float) -> Tensor:
    """Log-probability of a sentence and its end, divided by the length penalty."""
    total = table[[0, *sentence], [*sentence, 0]].sum()
    return total / ((5 + len(sentence) + 1) / 6) ** alpha


def beam_search(table: Tensor, size: int, longest: int, alpha: float) -> list[int]:
    """The sentence with the best score among those that a beam of this size finishes."""
    running: list[Partial] = [([], 0.0)]
    finished = []
    while running:
        best = _best([pair for beginning in running for pair in _grown(beginning, table, longest)], size)
        finished += [words[:-1] for words, _ in best if words[-1] == 0]
        running = [pair for pair in best if pair[0][-1] != 0]
    return max(finished, key=lambda words: float(score(words, table, alpha)))


def _grown(beginning: Partial, table: Tensor, longest: int) -> list[Partial]:
    words, total = beginning
    follows = table[words[-1] if words else 0].tolist()
    return [([*words, word], total + follows[word]) for word in range(len(follows) if len(words) < longest else 1)]


def _best(pairs: list[Partial], size: int) -> list[Partial]:
    return sorted(pairs, key=lambda pair: -pair[1])[:size]


def best_log_probability(table: Tensor, longest: int) -> Tensor:
    """Log-probability of the most probable sentence with at most `longest` words: tables (..., v, v) give (...)."""
    reached = table[..., 0, :]  # the best beginning that ends in each word
    found = reached[..., 0]
    for _ in range(longest):
        reached = (reached[..., 1:, None] + table[..., 1:, :]).amax(dim=-2)
        found = torch.maximum(found, reached[..., 0])
    return found


def bleu(outputs: list[str], references: list[str]) -> float:
    """BLEU of sentences whose words are separated by spaces, one reference each, without smoothing."""
    return 100 * _mean_precision(outputs, references) * math.exp(min(0, _excess(outputs, references)))


def _mean_precision(outputs: list[str], references: list[str]) -> float:
    precisions = []
    for n in range(1, 5):
        pairs = [(_groups(a, n), _groups(b, n)) for a, b in zip(outputs, references, strict=True)]
        precisions.append(sum((a & b).total() for a, b in pairs) / max(1, sum(a.total() for a, _ in pairs)))
    return math.prod(precisions) ** 0.25


def _groups(text: str, n: int) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _excess(outputs: list[str], references: list[str]) -> float:
    return 1 - len(" ".join(references).split()) / len(" ".join(outputs).split())


def _wrong_em(mistake: str, table: Tensor, pairs: Pairs) -> Tensor:
    counts = torch.zeros_like(table)
    for source, target in pairs:
        part = table[source][:, target]
        shares = part / part.sum(dim=1 if mistake == "targets" else 0, keepdim=True)
        for share, word in zip(shares.T, target, strict=True):
            counts.index_put_((torch.tensor(source), torch.tensor(word)), share, accumulate=mistake != "lost")
    return counts if mistake == "counts" else counts / counts.sum(dim=0 if mistake == "columns" else 1, keepdim=True)


def _wrong_links(mistake: str, weights: Tensor, links: Links) -> Tensor:
    exchanged = [(j, i) for i, j in links]
    if mistake == "mean weight":
        return torch.stack([weights[:, j, i] for i, j in links]).mean(dim=0)
    if mistake == "the bug itself":
        return links_found(weights[:, 1:], links)
    return links_found(weights.mT if mistake == "source points" else weights, exchanged)


def _wrong_score(mistake: str, sentence: list[int], table: Tensor, alpha: float) -> Tensor:
    total, lp = score(sentence, table, 0.0), ((6 + len(sentence)) / 6) ** alpha
    return {
        "no end": table[[0, *sentence][:-1], sentence].sum() / lp,
        "no end in the length": total / ((5 + len(sentence)) / 6) ** alpha,
        "multiplied": total * lp,
        "probability": total.exp() / lp,
    }[mistake]


def _wrong_beam(mistake: str, table: Tensor, size: int, longest: int, alpha: float) -> list[int]:
    if mistake in ("greedy", "no penalty"):
        return beam_search(table, *((1, longest, alpha) if mistake == "greedy" else (size, longest, 0.0)))
    running: list[Partial] = [([], 0.0)]
    finished: list[list[int]] = []
    while running and not (mistake == "first" and finished):
        best = [p for each in running for p in _best(_grown(each, table, longest), size if mistake == "each" else 99)]
        best = _best(best, size) if mistake == "first" else best
        finished += [words[:-1] for words, _ in best if words[-1] == 0]
        running = [pair for pair in best if pair[0][-1] != 0]
        running = _best(running, size) if mistake == "ends" else running
    return max(finished, key=lambda words: float(score(words, table, alpha)))


def _wrong_best(mistake: str, table: Tensor, longest: int) -> Tensor:
    if mistake == "greedy":
        return score(beam_search(table, 1, longest, 0.0), table, 0.0)
    reached = [table[0]]
    for _ in range(longest):
        rows = reached[-1][1:, None] + table[1:]
        reached.append(rows.logsumexp(dim=0) if mistake == "sum" else rows.amax(dim=0))
    if mistake == "no end":
        return reached[longest - 1][1:].amax()
    ends = torch.stack(reached)[:, 0]
    return {"sum": ends.logsumexp(dim=0), "silence": ends[1:].amax(), "only longest": ends[-1]}[mistake]


def _wrong_bleu(mistake: str, outputs: list[str], references: list[str]) -> float:
    if mistake == "mean of sentences":
        return sum(bleu([a], [b]) for a, b in zip(outputs, references, strict=True)) / len(outputs)
    endless = [9 * f"{text} | " for text in references]  # has everything often enough
    mean = 100 * _mean_precision(outputs, endless if mistake == "not clipped" else references)
    excess = _excess(outputs, references)
    return mean * {"reward": math.exp(excess), "not clipped": math.exp(min(0, excess))}.get(mistake, 1.0)


def _known(wrong: Callable[..., Any], says: dict[str, str]) -> tuple[Misconception, ...]:
    return tuple(Misconception(name, partial(wrong, name), text) for name, text in says.items())


_LINKS = _known(_wrong_links, {
    "the bug itself": "the row is taken in which the target word is read; it was written one row before.",
    "sides exchanged": "source and target places are exchanged.",
    "source points": "each source word looks for its largest weight; the rows should, one for each target word.",
    "mean weight": "weights are averaged; count how often the largest of a row is on the link.",
})  # fmt: skip
_BEAM = _known(_wrong_beam, {
    "greedy": "only one beginning is kept at each step, whatever the size of the beam.",
    "first": "the search stops as soon as one sentence has ended.",
    "each": "so many continuations are kept of every beginning; keep the best of all continuations together.",
    "ends": "sentences that end do not compete; an end must be among the best of its step to be kept, too.",
    "no penalty": "finished sentences are compared by log-probability; compare their scores.",
})  # fmt: skip
_OPTIMA = _known(_wrong_best, {
    "no end": "the factor of the end is missing.",
    "silence": "the empty sentence is forgotten.",
    "greedy": "this is what greedy search finds; something may be more probable.",
    "sum": "the probabilities of all sentences are added up.",
    "only longest": "all sentences have `longest` words; they have at most so many.",
})  # fmt: skip
_BLEU = _known(_wrong_bleu, {
    "reward": "the brevity penalty also acts on outputs that are longer than the reference, as a reward.",
    "not clipped": "a group counts as often as it is said, even when the reference has it less often.",
    "mean of sentences": "BLEU is computed for each sentence and averaged; pool the counts of all sentences first.",
    "no brevity penalty": "the brevity penalty is missing.",
})  # fmt: skip


def _telling(make: Callable[[], tuple[Any, ...]], right: Callable[..., Any], *known: Misconception) -> tuple[Any, ...]:
    """Draw arguments until each of these mistakes shows."""
    while True:
        args = make()
        if all(difference(one.answer(*args), right(*args), rtol=0.01, atol=0.01) for one in known):
            return args


def _table(draw: Draw, v: int) -> Tensor:
    return (2 * draw.normal(v, v)).log_softmax(dim=-1)


def _words(draw: Draw, v: int, length: int) -> list[int]:
    return torch.randint(v, (length,), generator=draw.generator).tolist()


def _em_cases(draw: Draw) -> list[Case]:
    v, w = draw.sizes((4, 5), (6, 8))
    pairs = [([i, *_words(draw, v, 2)], [j, *_words(draw, w, 3)]) for i in range(v) for j in range(i, w, v)]
    small = torch.tensor([[0.6, 0.4], [0.3, 0.7]])
    return [
        Case("one pair of two words each", (small, [([0, 1], [0, 1])])),
        Case("a source word that stands twice in its sentence", (small, [([0, 0, 1], [0, 1]), ([1], [1])])),
        Case("several pairs", (draw.normal(v, w).softmax(dim=-1), pairs)),
    ]


def _links_cases(draw: Draw) -> list[Case]:
    n = draw.sizes((5, 7))[0]

    def planted() -> tuple[Tensor, Links]:
        sources = torch.randperm(n, generator=draw.generator).tolist()
        scores = draw.normal(3, n + 1, n)
        scores[0, torch.arange(n), sources] += 6  # one head finds them while it writes
        scores[1, torch.arange(1, n + 1), sources] += 6  # and one while it reads
        return scores.softmax(dim=-1), [(i, j) for j, i in enumerate(sources)][: n - 1]

    small = torch.tensor([[[0.1, 0.9], [0.8, 0.2], [0.6, 0.4]]])
    return [
        Case("one head, two words in exchanged order", (small, [(1, 0), (0, 1)])),
        Case("three heads", _telling(planted, links_found, *_LINKS)),
    ]


def _score_cases(draw: Draw) -> list[Case]:
    v, length = draw.sizes((5, 8), (3, 6))
    sentence = [1 + word for word in _words(draw, v - 1, length)]
    return [
        Case("one word, no penalty", ([1], _table(draw, 2), 0.0)),
        Case("one word, alpha is 1", ([1], _table(draw, 2), 1.0)),
        Case("silence", ([], _table(draw, 3), 0.6)),
        Case("several words", (sentence, _table(draw, v), 0.6)),
    ]


def _beam_cases(draw: Draw) -> list[Case]:
    def drawn(alpha: float) -> tuple[Any, ...]:
        v, size = draw.sizes((5, 8), (2, 4))
        return _table(draw, v), size, 3, alpha  # from four words on, two can have the same factors: a a b a, a b a a

    small = torch.tensor([[0.1, 0.5, 0.4], [0.34, 0.33, 0.33], [0.9, 0.05, 0.05]]).log()
    return [Case("two words, a beam of two, no penalty", (small, 2, 2, 0.0))] + [
        Case(f"a larger table, alpha is {alpha}", _telling(partial(drawn, alpha), beam_search, known))
        for alpha, known in zip((0.0, 0.6, 0.0, 0.6, 1.0), _BEAM, strict=True)
    ]


def _best_cases(draw: Draw) -> list[Case]:
    v, w, longest = draw.sizes((4, 6), (9, 12), (5, 7))
    no_end, silence, *others = _OPTIMA
    return [
        Case("one word or none", _telling(lambda: (_table(draw, 2), 1), best_log_probability, no_end)),
        Case("silence is best", _telling(lambda: (_table(draw, 3), 2), best_log_probability, silence)),
        Case("several words", _telling(lambda: (_table(draw, v), longest), best_log_probability, *others)),
        Case("more sentences than anyone can try", (_table(draw, w), 20)),
    ]


def _bleu_cases(draw: Draw) -> list[Case]:
    def spoiled() -> tuple[list[str], list[str]]:
        references = [[f"w{k}" for k in _words(draw, 6, length)] for length in (9, 12, 7)]
        outputs = [text[: len(text) - cut] for text, cut in zip(references, (1, 3, 0), strict=True)]
        for text in outputs:
            text[draw.sizes((0, len(text) - 1))[0]] = "w0"
        return [" ".join(text) for text in outputs], [" ".join(text) for text in references]

    return [
        Case("one sentence, too short", (["the cat sat on the"], ["the cat sat on the mat"])),
        Case("one sentence, too long", (["now the cat sat on the mat"], ["the cat sat on the mat"])),
        Case("repeated words", (["the the cat sat on on the mat"], ["see the cat sat on the old mat"])),
        Case("a precision of zero", (["the cat sleeps on the mat"], ["a cat sat on the mat"])),
        Case("several sentences", _telling(spoiled, bleu, *_BLEU[1:])),
    ]


EXERCISE = Exercise(
    name="translation_worked_example", chapter="mathematics/translation_worked_example",
    title="Translation, from a pencil to the best of all sentences",
    given={"score": score, "best_log_probability": best_log_probability},
    questions=(
        Question(
            id="q1", title="With a pencil: a house", kind="recall", points=1, minutes=5, answer="haus_given_house",
            expects="P(Haus | house) after one round of IBM model 1, a number between 0 and 1, right to two digits.",
            # house receives 1 of Haus from the first pair, and 1/2 of das and 1/2 of Haus from the second
            reference=0.75, rtol=0.0, atol=0.005,
            hints=(
                "In the first pair there is nothing to share out: all of Haus goes to house. And in the second?",
                "Add up what house receives of each German word. Its probabilities are these counts over their sum.",
            ),
            misconceptions=(
                Misconception("a count", 1.5, "this is a count; divide it by all that house has received."),
                Misconception("not shared", 2 / 3, "every possible link counts in full; share each German word out."),
                Misconception("second pair alone", 0.5, "the first pair is left out."),
                Misconception("all", 1.0, "das is forgotten: house receives a share of it, too."),
            ),
        ),
        Question(
            id="q2", title="One round of IBM model 1", kind="code", points=3, minutes=15, answer="em_step",
            expects="a new table: share out every target word, add up the shares, make every row sum to one.",
            reference=em_step, cases=_em_cases,
            hints=(
                "Take one target word of one pair. Who could have written it, and how probable is that for each?",
                "Divide these probabilities by their sum over the source words of the pair: these are the shares.",
                "Add the shares up by source word (row) and target word (column); then divide every row by its sum.",
            ),
            misconceptions=_known(_wrong_em, {
                "targets": "each source word is shared out among the target words; it is the other way round.",
                "columns": "the columns sum to one, not the rows.",
                "counts": "the counts are not divided by the sum of their row.",
                "lost": "a repeated source word is paid once: += at a list of places changes equal places only once.",
            }),
        ),
        Question(
            id="q3", title="Find the bug: a step late", kind="find the bug", points=3, minutes=10, answer="links_found",
            expects="for each head, the share of links found in the row in which the target word is written.",
            reference=links_found, cases=_links_cases, misconceptions=_LINKS,
            hints=(
                "The decoder reads the start and writes target word 0. Which row is that?",
                "Follow one link through the smallest case: which row writes its target word, and where does it look?",
                "Row j + 1 already reads target word j. The model decided on it a row earlier.",
            ),
        ),
        Question(
            id="q4", title="The score of a sentence", kind="code", points=2, minutes=8, answer="score",
            expects="the sum of the log-probabilities of all words and the end, over ((5 + |y|) / 6) ** alpha.",
            reference=score, cases=_score_cases,
            hints=(
                "For a sentence of one word there are two factors: the word after the start, and the end after it.",
                "Put 0 before the sentence to have the previous tokens, and 0 behind it to have the next ones.",
                "The length |y| of the penalty counts the end, too.",
            ),
            misconceptions=_known(_wrong_score, {
                "no end": "the end is no factor of the probability.",
                "no end in the length": "the end is not counted in the length.",
                "multiplied": "the log-probability is multiplied by the penalty.",
                "probability": "the probability is divided by the penalty, not its logarithm.",
            }),
        ),
        Question(
            id="q5", title="Beam search", kind="code", points=4, minutes=20, answer="beam_search",
            expects="a list of words, without 0: of the sentences that the beam finishes, the one with the best score.",
            reference=beam_search, cases=_beam_cases, misconceptions=_BEAM,
            hints=(
                "Keep beginnings as pairs (words, log-probability). A step makes one list of all their continuations.",
                "Sort that list, cut it to `size`, then part it: what ends with 0 is finished, the rest runs on.",
                "Go on until nothing runs any more; then take the finished sentence with the largest given.score.",
            ),
        ),
        Question(
            id="q6", title="The best of all", kind="code", points=3, minutes=12, answer="best_log_probability",
            expects="the largest log-probability, end included, of any sentence with at most `longest` words.",
            reference=best_log_probability, cases=_best_cases, misconceptions=_OPTIMA,
            hints=(
                "What can follow a beginning depends on its last word alone. So of two beginnings of the same length "
                "that end in the same word, which one may be thrown away?",
                "Keep one number for each last word: the best that any beginning of n words which ends there can have. "
                "How do you get from n words to n + 1?",
                "Add the table to these numbers and take the largest over the previous word. Column 0 holds what ends "
                "at this step, the first step included: remember the best.",
            ),
        ),
        Question(
            id="q7", title="BLEU", kind="code", points=3, minutes=12, answer="bleu",
            expects="100 times the brevity penalty times the geometric mean of four clipped, pooled precisions.",
            reference=bleu, cases=_bleu_cases,
            hints=(
                "Make a Counter of the groups of n words, for output and reference. How often may one group count?",
                "The smaller of the two numbers. Add hits and totals over all sentences before you divide.",
                "For the brevity penalty, count the words of all outputs together, and of all references together.",
            ),
            misconceptions=_BLEU, forbidden=frozenset({"sacrebleu", "corpus_bleu", "sentence_bleu", "nltk"}),
        ),
        Question(
            id="q8", title="Measure: how often greedy errs", kind="experiment", points=2, minutes=8, answer="missed",
            expects="the share of 3000 random tables for which greedy search ends below the most probable sentence.",
            reference=0.62, accepts=lambda value: 0.565 <= value <= 0.675,
            hints=(
                "Greedy search is a beam of one. Compare its log-probability with q6; mind the last digits of equals.",
                "The tables are (2 * torch.randn(6, 6)).log_softmax(dim=-1), at most five words. Count the misses.",
            ),
            misconceptions=(
                Misconception("hits", 0.38, "this is how often greedy search is right."),
                Misconception("beam of two", 0.372, "this is what a beam of two misses."),
                Misconception("flat tables", 0.715, "the normal numbers are not multiplied by 2."),
                Misconception("in percent", 62.0, "this is in percent; a share between 0 and 1 is asked for."),
            ),
        ),
    ),
)  # fmt: skip
