"""The exercise of `practice/train_summarisation`: ROUGE by hand, a ceiling, copying, who wrote it, and a leash."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from fmcourse.exercises.spec import Case, Draw, Exercise, Misconception, Question


def rouge_n(output: list[str], reference: list[str], n: int) -> float:
    """Twice the shared groups of n neighbouring words over all groups of both, 0 to 1; without any group 0."""
    a, b = _groups(output, n), _groups(reference, n)
    return 2 * (a & b).total() / max(1, a.total() + b.total())


def _groups(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def best_span(text: list[str], headline: list[str], longest: int) -> list[str]:
    """Of all runs of at most `longest` neighbouring words the one with the highest ROUGE-1."""
    return max(_spans(text, longest), key=lambda span: rouge_n(span, headline, 1))


def _spans(text: list[str], longest: int) -> Iterator[list[str]]:
    for i in range(len(text)):
        yield from (text[i:j] for j in range(i + 1, min(i + longest, len(text)) + 1))


def mixture(write: Tensor, weights: Tensor, gate: Tensor, source: Tensor) -> Tensor:
    """Probability of each token (t, v): written (t, v) with the gate (t,), or copied by weights (t, s) of places."""
    copied = torch.zeros_like(write).index_add(1, source, weights)
    return gate[:, None] * write + (1 - gate[:, None]) * copied


def who_wrote(write: Tensor, weights: Tensor, gate: Tensor, source: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """For each token that came: its copied share (t,), and the slope of its loss by the gate's number z (t,)."""
    total = mixture(write, weights, gate, source).gather(1, tokens[:, None])[:, 0]
    copied = (1 - gate) * (weights * (source == tokens[:, None])).sum(dim=1) / total
    return copied, gate - (1 - copied)


def write_headline(
    write: Tensor, point: Tensor, gate: Tensor, source: Tensor, free: Tensor, longest: int, *, leash: bool = True,
    once: str = "pairs", margin: float = 0.0,
) -> tuple[list[int], list[float]]:  # fmt: skip
    """Greedy tokens, the last one of the vocabulary is start and end; and their copied shares. Keywords do wrong."""
    end = len(gate) - 1
    said, shares = [end], list[float]()
    while len(said) <= longest:
        now = said[-1:]
        parts = (write[now], point[now][:, source].softmax(dim=-1), gate[now], source)
        may = free | torch.isin(torch.arange(end + 1), source) | (not leash)
        may[[b for a, b in pairwise(said) if once == "words" or (once == "pairs" and a == now[0])]] = False
        may[end] = True
        best = mixture(*parts)[0].masked_fill(~may, -1.0).topk(2)
        if best.values[0] < best.values[1] * (1 + margin):
            raise ValueError("two tokens are nearly as likely")
        if (token := int(best.indices[0])) == end:
            break
        said.append(token)
        shares.append(float(who_wrote(*parts, torch.tensor([token]))[0]))
    return said[1:], shares


_WORDS = "a for the editor files xml library fast viewer tool small of".split()


def _some(draw: Draw, n: int, among: int = len(_WORDS)) -> list[str]:
    return [_WORDS[i] for i in torch.randint(among, (n,), generator=draw.generator)]


def _rouge_cases(draw: Draw) -> list[Case]:
    m, n = draw.sizes((6, 7), (9, 11))
    return [
        Case("one word of two", (["xml", "editor"], ["editor"], 1)),
        Case("a word said twice", (["fast", "fast", "editor"], ["fast", "xml", "editor", "tool"], 1)),
        Case("twice in the reference too", ("for xml for the for".split(), "for the small for all".split(), 1)),
        Case("pairs", ("a tool for the tool for".split(), "tool for the tool for xml files".split(), 2)),
        Case("an empty output", ([], ["a", "tool"], 1)),
        Case("no pair in either", (["tool"], ["tool"], 2)),
        Case("longer ones", (_some(draw, n, 5), _some(draw, m, 5), 1)),
        Case("longer ones, pairs", (_some(draw, m, 3), _some(draw, n, 3), 2)),
        Case("longer ones, three words", (_some(draw, m, 2), _some(draw, n, 2), 3)),
    ]


def _one_best(text: list[str], wanted: list[str], longest: int) -> bool:
    first, second = sorted((rouge_n(span, wanted, 1) for span in _spans(text, longest)), reverse=True)[:2]
    return first > second + 1e-6


def _span_cases(draw: Draw) -> list[Case]:
    cases = [
        Case("three words", (["a", "fast", "editor"], ["fast", "tool"], 2)),
        Case(
            "precision counts", ("small xml of of of of of fast viewer tool of a".split(), "xml fast tool".split(), 11)
        ),
        Case("not longer than allowed", ("a fast of xml tool files".split(), "fast xml tool files".split(), 4)),
        Case("a word said twice", ("xml xml xml tool of editor".split(), "xml editor tool".split(), 3)),
    ]
    for about, n, m, longest in (("a text", 12, 4, 5), ("a longer text", 16, 5, 7)):
        while not _one_best(*(args := (_some(draw, n), _some(draw, m), longest))):
            pass
        cases.append(Case(about, args))
    return cases


def _steps(draw: Draw, t: int, s: int, v: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a network says in t steps about a text of s tokens, some of them more than once."""
    source = torch.randint(v // 2, (s,), generator=draw.generator)
    source[-1] = source[0]
    parts = draw.normal(t, v).softmax(-1), draw.normal(t, s).softmax(-1)
    return *parts, 0.1 + 0.8 * torch.rand(t, generator=draw.generator), source


_HAND = (torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([0.4]), torch.tensor([1, 2, 1]))


def _mixture_cases(draw: Draw) -> list[Case]:
    t, s, v = draw.sizes((3, 4), (6, 8), (9, 12))
    return [
        Case("one step, a token twice in the text", _HAND),
        Case("one step, no token twice", (*_HAND[:3], torch.tensor([0, 2, 1]))),
        Case("several steps", _steps(draw, t, s, v)),
        Case("a text longer than the vocabulary", _steps(draw, t, 12, 5)),
    ]


def _who_cases(draw: Draw) -> list[Case]:
    t, s, v = draw.sizes((4, 5), (6, 8), (9, 12))
    parts = _steps(draw, t, s, v)
    tokens = torch.randint(v, (t,), generator=draw.generator)
    tokens[0], tokens[1] = parts[3][0], v - 1
    return [
        Case("a token that stands twice", (*_HAND, torch.tensor([1]))),
        Case("a token that does not stand there", (*_HAND, torch.tensor([0]))),
        Case("several steps", (*parts, tokens)),
        Case("all from the text", (*(parts := _steps(draw, 3, 7, 8)), parts[3][:3])),
    ]


def _story(draw: Draw, s: int, v: int, longest: int, tells: Callable[..., bool]) -> tuple[Any, ...]:
    """A network and a text, drawn again until no two tokens are nearly as likely and the wrong ways show."""
    while True:
        write, point = (2 * draw.normal(v, v)).softmax(-1), 2 * draw.normal(v, v)
        gate = 0.2 + 0.6 * torch.rand(v, generator=draw.generator)
        source = torch.randint(v - 1, (s,), generator=draw.generator)
        args = (write, point, gate, source, torch.rand(v, generator=draw.generator) < 0.25, longest)
        try:
            if tells(write_headline(*args, margin=0.01), *args):
                return args
        except ValueError:
            continue


def _headline_cases(draw: Draw) -> list[Case]:
    def leash(right: Any, *args: Any) -> bool:
        return bool(write_headline(*args, leash=False)[0] != right[0] and _only_source(*args)[0] != right[0])

    def repeats(right: Any, *args: Any) -> bool:
        return all(write_headline(*args, once=once)[0] != right[0] for once in ("", "words"))

    return [
        Case("at most two tokens", _story(draw, 3, 5, 2, lambda right, *_: len(right[0]) == 2)),
        Case("it ends by itself", _story(draw, 5, 8, 6, lambda right, *_: 1 < len(right[0]) < 6)),
        Case("the leash matters", _story(draw, 5, 12, 6, leash)),
        Case("it would repeat itself", _story(draw, 6, 9, 8, repeats)),
    ]


def _only_source(write: Tensor, point: Tensor, gate: Tensor, source: Tensor, free: Tensor, longest: int) -> Any:
    return write_headline(write, point, gate, source, torch.zeros_like(free), longest)


def _shared(way: Callable[[int, int, int], float], sets: bool = False) -> Callable[..., float]:
    """A wrong score of c shared, m said and n wanted groups."""

    def score(output: list[str], reference: list[str], n: int) -> float:
        a, b = _groups(output, n), _groups(reference, n)
        if sets:
            a, b = Counter(set(a)), Counter(set(b))
        return way((a & b).total(), a.total(), b.total())

    return score


def _unclipped(output: list[str], reference: list[str], n: int) -> float:
    a, b = _groups(output, n), _groups(reference, n)
    return 2 * sum(count for group, count in a.items() if group in b) / max(1, a.total() + b.total())


def _chosen(spans: Callable[..., Any], score: Callable[..., float] = rouge_n) -> Callable[..., list[str]]:
    """The best of other spans, or the best by another score."""
    return lambda text, wanted, longest: max(spans(text, longest), key=lambda span: score(span, wanted, 1))


def _overwritten(write: Tensor, weights: Tensor, gate: Tensor, source: Tensor) -> Tensor:
    last = torch.tensor([token not in source[i + 1 :] for i, token in enumerate(source)])
    return mixture(write, weights * last, gate, source)


def _scaled_up(*parts: Tensor) -> Tensor:
    return (wrong := _overwritten(*parts)) / wrong.sum(dim=-1, keepdim=True)


def _slope_by_gate(write: Tensor, weights: Tensor, gate: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    copied, slope = who_wrote(write, weights, gate, *rest)
    return copied, slope / (gate * (1 - gate))


def _one_place(write: Tensor, weights: Tensor, gate: Tensor, source: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    first = torch.tensor([token not in source[:i] for i, token in enumerate(source)])
    return who_wrote(write, weights * first, gate, source, tokens)


EXERCISE = Exercise(
    name="train_summarisation",
    chapter="practice/train_summarisation",
    title="Headlines, from three scores by hand to a copier on a leash",
    given={"rouge_n": rouge_n, "best_span": best_span, "mixture": mixture, "who_wrote": who_wrote},
    questions=(
        Question(
            id="q1",
            title="By hand: three scores",
            kind="recall",
            points=1,
            minutes=8,
            answer="rouge_by_hand",
            expects="a list of three numbers between 0 and 1: ROUGE-1, ROUGE-2 and ROUGE-L, right to two digits.",
            # words: fast, xml, files, for; pairs: xml files; in order: fast, for, files
            reference=[8 / 13, 2 / 11, 6 / 13],
            hints=(
                "Each score is 2c / (m + n): c shared items, m items in the output, n in the reference.",
                "An item that stands twice in the output and once in the reference is shared once.",
                "For ROUGE-L cross out words of both until the same row of words is left. The order counts.",
            ),
            misconceptions=(
                Misconception("counted twice", [12 / 13, 2 / 11, 6 / 13], "*fast* and *files* are counted twice each."),
                Misconception("precision", [4 / 7, 1 / 6, 3 / 7], "these are the precisions alone."),
                Misconception("recall", [4 / 6, 1 / 5, 3 / 6], "these are the recalls alone."),
                Misconception("no gaps", [8 / 13, 2 / 11, 4 / 13], "ROUGE-L was counted without gaps."),
            ),
            rtol=0.0,
            atol=0.006,
        ),
        Question(
            id="q2",
            title="ROUGE",
            kind="code",
            points=2,
            minutes=10,
            answer="rouge_n",
            expects="twice the number of shared groups over the number of all groups of both, between 0 and 1.",
            reference=rouge_n,
            cases=_rouge_cases,
            hints=(
                "Make the groups of n neighbouring words of each side; a tuple of words can be counted.",
                "A group is shared as often as it stands in both: the smaller of the two numbers.",
                "collections.Counter counts; the & of two counters keeps the smaller number of each.",
            ),
            misconceptions=(
                Misconception("not clipped", _unclipped, "a group said twice counts twice, wanted twice or not."),
                Misconception("sets", _shared(lambda c, m, n: 2 * c / max(1, m + n), True), "each group counts once."),
                Misconception("precision", _shared(lambda c, m, n: c / max(1, m)), "this is precision alone."),
                Misconception("recall", _shared(lambda c, m, n: c / max(1, n)), "this is recall alone."),
                Misconception(
                    "plain mean",
                    _shared(lambda c, m, n: (c / max(1, m) + c / max(1, n)) / 2),
                    "the plain mean of precision and recall is taken, not the harmonic one.",
                ),
            ),
            forbidden=frozenset({"rouge", "RougeScorer", "rouge_score"}),
        ),
        Question(
            id="q3",
            title="A ceiling",
            kind="code",
            points=2,
            minutes=10,
            answer="best_span",
            expects="the neighbouring words of the text, at most `longest`, with the highest ROUGE-1.",
            reference=best_span,
            cases=_span_cases,
            hints=(
                "A span has a beginning and an end: two loops make all of them.",
                "Its length is anything from 1 to `longest`, but it cannot pass the end of the text.",
                "max with a key finds the best one; given.rouge_n scores a span.",
            ),
            misconceptions=(
                Misconception("recall", _chosen(_spans, _shared(lambda c, m, n: c / n)), "recall alone chooses."),
                Misconception(
                    "full length",
                    _chosen(lambda text, n: (text[i : i + n] for i in range(max(1, len(text) - n + 1)))),
                    "only spans of full length are tried.",
                ),
                Misconception(
                    "from the start",
                    _chosen(lambda text, n: (text[:j] for j in range(1, n + 1))),
                    "only spans at the beginning of the text are tried.",
                ),
            ),
        ),
        Question(
            id="q4",
            title="Find the bug: the more it says, the less it counts",
            kind="find the bug",
            points=3,
            minutes=10,
            answer="mixture",
            expects="for each step the probability of every token; each row sums to one.",
            reference=mixture,
            cases=_mixture_cases,
            hints=(
                "Take one step and the text [1, 2, 1]. What is in `copied` after the assignment?",
                "A token that stands in the text several times gets the weights of all its places together.",
                "index_add and scatter_add add where an assignment overwrites.",
            ),
            misconceptions=(
                Misconception("the bug itself", _overwritten, "only the last place of a token counts."),
                Misconception("scaled up", _scaled_up, "rows are scaled to sum to one, but weights are still lost."),
                Misconception(
                    "gate", lambda w, a, gate, x: mixture(w, a, 1 - gate, x), "the gate is the wrong way round."
                ),
            ),
        ),
        Question(
            id="q5",
            title="Who wrote this word?",
            kind="code",
            points=3,
            minutes=14,
            answer="who_wrote",
            expects="two tensors (t,): the copied share of each token, and the slope of its loss by the gate's z.",
            reference=who_wrote,
            cases=_who_cases,
            hints=(
                "Two ways lead to the token. The copied share is the part of its probability that one of them has.",
                "For the slope: the loss is minus the logarithm of p, and the derivative of g by z is g (1 - g).",
                "Bring the slope to its simplest form: what the gate expected, minus what turned out.",
            ),
            misconceptions=(
                Misconception("written", lambda *a: (1 - who_wrote(*a)[0], who_wrote(*a)[1]), "the share is written."),
                Misconception("sign", lambda *a: (who_wrote(*a)[0], -who_wrote(*a)[1]), "the slope's sign is wrong."),
                Misconception("by g", _slope_by_gate, "the slope is taken by g itself, not by z."),
                Misconception("one place", _one_place, "only the first place of a token is looked at."),
            ),
        ),
        Question(
            id="q6",
            title="Design: a copier on a leash",
            kind="code",
            points=4,
            minutes=20,
            answer="write_headline",
            expects="the list of tokens, without the end, and the list of their copied shares.",
            reference=write_headline,
            cases=_headline_cases,
            hints=(
                "One step: the rows of the last token, the softmax over the places of the text, given.mixture.",
                "Make a mask of allowed tokens. Give all others the probability -1 before you take the largest.",
                "Which tokens came after the last one when it was said before? They may not come now; the end may.",
            ),
            misconceptions=(
                Misconception("no leash", lambda *a: write_headline(*a, leash=False), "any token may be written."),
                Misconception("only the text", _only_source, "the free tokens are not allowed."),
                Misconception("stuck", lambda *a: write_headline(*a, once=""), "a pair of tokens may come twice."),
                Misconception(
                    "words", lambda *a: write_headline(*a, once="words"), "a token may not come twice; a pair may not."
                ),
            ),
        ),
        Question(
            id="q7",
            title="Measure: the luck of a ceiling",
            kind="experiment",
            points=3,
            minutes=16,
            answer="luck",
            expects="the mean ROUGE-1, between 0 and 1, of the best span for a headline about something else.",
            reference=0.426,
            accepts=lambda value: 0.388 <= value <= 0.464,
            hints=(
                "torch.multinomial or numpy's choice draws words with given probabilities; a word is a number.",
                "For each text: all spans of 1 to 10 words, the best score of them; then the mean over the texts.",
            ),
            misconceptions=(
                Misconception("first words", 0.133, "the first words are scored; nothing is chosen."),
                Misconception("mean span", 0.118, "the mean over all spans is taken, not the best."),
                Misconception("full length", 0.264, "only spans of 10 words are tried."),
                Misconception("not clipped", 0.51, "a word said twice counts twice, wanted twice or not."),
            ),
            atol=0.01,
        ),
    ),
)
