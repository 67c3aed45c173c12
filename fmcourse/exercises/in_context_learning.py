"""The exercise of `practice/in_context_learning`: a head that votes, heads switched off, what examples are worth."""

import math
from functools import partial

import torch
from torch import Tensor

from fmcourse.exercises.spec import Case, Draw, Exercise, Misconception, Question


def vote(tokens: Tensor, v: int, beta: float) -> Tensor:
    """What an induction head says at each place: texts (..., t) give shares (..., t, v)."""
    tokens_are = _is(tokens, v)
    return _weights(beta * tokens_are @ _after(tokens_are).mT) @ tokens_are


def _is(tokens: Tensor, v: int) -> Tensor:
    return (tokens[..., None] == torch.arange(v)).double()


def _after(tokens_are: Tensor) -> Tensor:
    """Whom each token stands after; the first one after nobody."""
    return torch.cat([torch.zeros_like(tokens_are[..., :1, :]), tokens_are[..., :-1, :]], dim=-2)


def _weights(scores: Tensor) -> Tensor:
    return scores.masked_fill(~torch.ones_like(scores, dtype=torch.bool).tril(), -torch.inf).softmax(dim=-1)


def silence(mixed: Tensor, n_heads: int, off: list[int]) -> Tensor:
    """What the heads hand over, side by side (..., t, m), with zeros for the heads that are off."""
    by_head = mixed.reshape(*mixed.shape[:-1], n_heads, -1).clone()
    by_head[..., off, :] = 0
    return by_head.flatten(-2)


def induction_score(maps: Tensor, tokens: Tensor) -> Tensor:
    """Maps (h, t, t) and a text (t) give (h): mean attention to what followed earlier copies, where there are any."""
    return _score(maps, _follows(tokens).tril())


def _follows(tokens: Tensor) -> Tensor:
    """True at (t, s) where the token before place s is equal to that of place t."""
    same = tokens[:, None] == tokens
    return torch.cat([torch.zeros_like(same[:, :1]), same[:, :-1]], dim=1)


def _score(maps: Tensor, wanted: Tensor) -> Tensor:
    return (maps * wanted).sum(dim=-1)[:, wanted.any(dim=-1)].mean(dim=-1)


def posterior(counts: Tensor, trust: float, prior: Tensor) -> Tensor:
    """Chances of each colour to be the true one after being told so often (..., c)."""
    each = math.log(trust * (counts.shape[-1] - 1) / (1 - trust))
    return (prior.double().log() + each * counts.double()).softmax(dim=-1)


def long_vote(tokens: Tensor, v: int, beta: float, k: int) -> Tensor:
    """A text (t): a vote (t, v) in which a match counts beta for each of up to k tokens that agree without a gap."""
    return _weights(beta * _runs(tokens.tolist()).clamp(max=k)) @ _is(tokens, v)


def _runs(tokens: list[int]) -> Tensor:
    """At (t, s): how many tokens up to place t agree with those before place s."""
    runs = torch.zeros(len(tokens), len(tokens), dtype=torch.float64)
    for t, token in enumerate(tokens):
        for s in range(1, t + 1):
            if tokens[s - 1] == token:
                runs[t, s] = 1 + (runs[t - 1, s - 1] if t else 0)
    return runs


def _text(draw: Draw, v: int, *shape: int) -> Tensor:
    return torch.randint(0, v, shape, generator=draw.generator)


def _vote_cases(draw: Draw) -> list[Case]:
    b, t, v = draw.sizes((2, 3), (9, 12), (4, 6))
    return [
        Case("the text 0 1 0", (torch.tensor([0, 1, 0]), 2, 4.0)),
        Case("the puzzle of the chapter", (torch.tensor([0, 2, 1, 3, 0]), 4, 4.0)),
        Case("the first token comes again at the end", (torch.tensor([1, 1, 2, 0, 0, 2, 1]), 3, 2.0)),
        Case("a longer text", (_text(draw, v, t), v, 3.0)),
        Case("a batch of texts, a sharp head", (_text(draw, v - 1, b, t), v, 40.0)),
    ]


def _silence_cases(draw: Draw) -> list[Case]:
    b, t, d = draw.sizes((2, 3), (4, 6), (7, 9))
    return [
        Case("two heads of width 2, one place", (torch.tensor([[1.0, 2.0, 3.0, 4.0]]), 2, [0])),
        Case("three heads of width 2, two off", (torch.arange(1.0, 13.0).view(2, 6), 3, [0, 2])),
        Case("three heads, the last off", (draw.normal(t, 3 * d), 3, [2])),
        Case("a batch, several heads off", (draw.normal(b, t, 5 * d), 5, [3, 1])),
    ]


def _score_cases(draw: Draw) -> list[Case]:
    h, t, v = draw.sizes((2, 4), (9, 12), (4, 6))

    def maps(h: int, t: int) -> Tensor:
        return _weights(2 * draw.normal(h, t, t))

    cases = [
        Case("one head, the text 0 1 0", (maps(1, 3), torch.tensor([0, 1, 0]))),
        Case("the same token twice in a row", (maps(1, 4), torch.tensor([0, 1, 1, 2]))),
        Case("two earlier copies", (maps(2, 7), torch.tensor([3, 1, 3, 0, 2, 3, 1]))),
        Case("a text written twice", (maps(h, 8), torch.tensor([2, 0, 3, 1] * 2))),
    ]
    return [*cases, Case("any text", (maps(h + 1, t), torch.cat([torch.tensor([0, 0, 1]), _text(draw, v, t - 3)])))]


def _posterior_cases(draw: Draw) -> list[Case]:
    b, t, c = draw.sizes((2, 3), (4, 5), (6, 8))
    prior = draw.normal(c).softmax(dim=-1)
    unlikely = torch.tensor([0.001, 0.499, 0.5])
    return [
        Case("two colours, one example", (torch.tensor([1, 0]), 0.8, torch.tensor([0.5, 0.5]))),
        Case("no example", (torch.tensor([0, 0, 0]), 0.8, torch.tensor([0.5, 0.25, 0.25]))),
        Case("two votes to one, three colours", (torch.tensor([2, 1, 0]), 0.75, torch.full((3,), 1 / 3))),
        Case("a colour that the weights think unlikely", (torch.tensor([[1, 0, 0], [4, 0, 0]]), 0.8, unlikely)),
        Case("a colour that cannot be", (torch.tensor([1, 2, 0]), 0.7, torch.tensor([0.5, 0.0, 0.5]))),
        Case("many words", (torch.randint(0, 4, (b, t, c), generator=draw.generator), 0.6, prior)),
        Case("a thousand examples", (torch.tensor([401, 400, 200]), 0.9, torch.tensor([0.3, 0.3, 0.4]))),
    ]


def _long_cases(draw: Draw) -> list[Case]:
    t, v = draw.sizes((10, 13), (3, 4))
    return [
        Case("0 1 0, one token is to match", (torch.tensor([0, 1, 0]), 2, 3.0, 1)),
        Case("two contexts of 1", (torch.tensor([0, 1, 2, 3, 1, 4, 0, 1]), 5, 2.0, 2)),
        Case("a gap in the match", (torch.tensor([0, 1, 2, 3, 0, 4, 2]), 5, 2.0, 3)),
        Case("a long repetition", (torch.tensor([0, 1, 2] * 3), 3, 0.7, 2)),
        Case("the end matches the beginning", (torch.tensor([1, 0, 2, 2, 1]), 3, 1.5, 3)),
        Case("any text", (_text(draw, v, t), v, 1.2, 3)),
    ]


def _wrong_vote(how: str, tokens: Tensor, v: int, beta: float) -> Tensor:
    tokens_are = _is(tokens, v)
    after = _after(tokens_are)
    if how == "ahead":
        return (beta * tokens_are @ after.mT).softmax(dim=-1) @ tokens_are
    if how == "copies":
        return _weights(beta * tokens_are @ tokens_are.mT) @ tokens_are
    if how == "round":
        return _weights(beta * tokens_are @ tokens_are.roll(1, -2).mT) @ tokens_are
    return _weights(beta * tokens_are @ after.mT) @ after


def _wrong_silence(how: str, mixed: Tensor, n_heads: int, off: list[int]) -> Tensor:
    kept = [head for head in range(n_heads) if head not in off]
    if how == "inverted":
        return silence(mixed, n_heads, kept)
    if how == "cut out":
        return mixed.reshape(*mixed.shape[:-1], n_heads, -1)[..., kept, :].flatten(-2)
    if how == "mean":
        return silence(mixed, n_heads, off) + silence(mixed, n_heads, kept).mean(dim=-2, keepdim=True)
    by_head = mixed.reshape(*mixed.shape[:-1], -1, n_heads).clone()
    by_head[..., off] = 0
    return by_head.flatten(-2)


def _wrong_score(how: str, maps: Tensor, tokens: Tensor) -> Tensor:
    same, follows = (tokens[:, None] == tokens).tril(-1), _follows(tokens).tril()
    if how == "copies":
        return _score(maps, same)
    if how == "before":
        return _score(maps, torch.cat([same[:, 1:], torch.zeros_like(same[:, :1])], dim=1))
    if how == "everywhere":
        return (maps * follows).sum(dim=-1).mean(dim=-1)
    if how == "each":
        return _score(maps / follows.sum(dim=-1, keepdim=True).clamp(min=1), follows)
    return (maps * follows).sum(dim=-1)[:, _follows(tokens).any(dim=-1)].mean(dim=-1)


def _products(counts: Tensor, trust: float, prior: Tensor) -> Tensor:
    lies = counts.sum(dim=-1, keepdim=True) - counts
    chances = prior * trust**counts * ((1 - trust) / (counts.shape[-1] - 1)) ** lies
    return chances / chances.sum(dim=-1, keepdim=True)


def _one_rival(counts: Tensor, trust: float, prior: Tensor) -> Tensor:
    return (prior.double().log() + math.log(trust / (1 - trust)) * counts).softmax(dim=-1)


def _wrong_long(how: str, tokens: Tensor, v: int, beta: float, k: int) -> Tensor:
    text, length = tokens.tolist(), len(tokens)
    runs = _runs(text)
    if how == "only full":
        runs = (runs >= k).double() * k
    elif how == "capped":
        runs = runs.clamp(max=k)
    elif how != "endless":
        runs = torch.zeros(length, length, dtype=torch.float64)
        for t in range(length):
            for s in range(1 if how == "gaps" else 0, t + 1):
                places = [(t - i, s - 1 - i) for i in range(k)]
                agree = [text[a] == text[b] for a, b in places if how == "round" or b >= 0]
                runs[t, s] = sum(agree) if how == "gaps" else [*agree, False].index(False)
    return _weights(beta * runs) @ _is(tokens, v)


EXERCISE = Exercise(
    name="in_context_learning",
    chapter="practice/in_context_learning",
    title="In-context learning, from a vote by hand to a longer memory",
    given={"vote": vote, "silence": silence, "induction_score": induction_score, "posterior": posterior},
    questions=(
        Question(
            id="q1",
            title="By hand: a head that votes",
            kind="recall",
            points=1,
            minutes=8,
            answer="says_red",
            expects="the weight that the head gives to red in all, between 0 and 1, right to two digits.",
            # after a dax: red, red, blue, 10 each; of the other eight tokens, 1 each, one is red
            reference=21 / 38,
            hints=(
                "Which places stand just after a dax? Each of them counts 10, every other place counts 1.",
                "Red may be said from three places: are all of them matches? Divide by the sum over all 11 places.",
            ),
            misconceptions=(
                Misconception(
                    "matches only", 20 / 38, "the red that matches nothing is forgotten; it has weight, too."
                ),
                Misconception("share of votes", 2 / 3, "only matches have weight; that is the limit of a sharp head."),
                Misconception("every red", 30 / 38, "every red is counted as a match; one of them follows a wug."),
                Misconception("blue", 11 / 38, "this is the weight of blue."),
            ),
            rtol=0.0,
            atol=0.006,
        ),
        Question(
            id="q2",
            title="The induction head",
            kind="code",
            points=3,
            minutes=14,
            answer="vote",
            expects="for each place a share for every token of the vocabulary, from what is read so far; sums are one.",
            reference=vote,
            cases=_vote_cases,
            hints=(
                "Make two tables of zeros and ones: what each token is, and what it stands after (nothing at place 0).",
                "The scores are beta times the product of the first table with the transposed second one.",
                "Hide later places before the softmax. The weights then average what the tokens are.",
            ),
            misconceptions=(
                Misconception("looks ahead", partial(_wrong_vote, "ahead"), "places see what comes after them."),
                Misconception("own copies", partial(_wrong_vote, "copies"), "it looks for copies, not what followed."),
                Misconception("round", partial(_wrong_vote, "round"), "the first token stands after the last one."),
                Misconception("notes", partial(_wrong_vote, "notes"), "it says what tokens stand after, not are."),
            ),
        ),
        Question(
            id="q3",
            title="Find the bug: all heads are equal",
            kind="find the bug",
            points=2,
            minutes=10,
            answer="silence",
            expects="the same tensor with zeros in the columns of the heads that are off, and nowhere else.",
            reference=silence,
            cases=_silence_cases,
            hints=(
                "Try one place with the numbers 1, 2, 3, 4, two heads, and head 0 off.",
                "Head 0 has the first columns, side by side. Which columns does the view put together?",
                "The last dimension is heads first, then the width of a head; the zeros fill one whole head.",
            ),
            misconceptions=(
                Misconception("the bug itself", partial(_wrong_silence, "layout"), "every head loses a few columns."),
                Misconception("inverted", partial(_wrong_silence, "inverted"), "the heads that are off are kept."),
                Misconception("cut out", partial(_wrong_silence, "cut out"), "the columns are cut out, not zero."),
                Misconception(
                    "mean", partial(_wrong_silence, "mean"), "heads that are off hand over their mean, not zeros."
                ),
            ),
        ),
        Question(
            id="q4",
            title="A score for heads",
            kind="code",
            points=3,
            minutes=12,
            answer="induction_score",
            expects="for each head a mean over places with an earlier copy: its attention to what followed the copies.",
            reference=induction_score,
            cases=_score_cases,
            hints=(
                "Make a table (t, s) of True and False: does place s come just after an earlier copy of place t?",
                "tokens[:, None] == tokens compares all pairs; move it by one column, and keep places up to t.",
                "Sum the attention over the True places of each row; take the mean over rows that have any.",
            ),
            misconceptions=(
                Misconception(
                    "copies", partial(_wrong_score, "copies"), "attention to copies is counted, not to what followed."
                ),
                Misconception(
                    "before", partial(_wrong_score, "before"), "attention to what stood before a copy counts."
                ),
                Misconception("everywhere", partial(_wrong_score, "everywhere"), "places without a copy count as 0."),
                Misconception("each", partial(_wrong_score, "each"), "a mean is taken over the followers of a place."),
                Misconception("future", partial(_wrong_score, "future"), "places count whose copies only come later."),
            ),
        ),
        Question(
            id="q5",
            title="What an example is worth",
            kind="code",
            points=3,
            minutes=12,
            answer="posterior",
            expects="for each colour the probability that it is the true one; they sum to one.",
            reference=posterior,
            cases=_posterior_cases,
            hints=(
                "Bayes: the prior, times the probability of everything that was told if this colour were the true one.",
                "A colour that is not the true one is told with probability (1 - trust) / (c - 1).",
                "Add logarithms, and let softmax do the exponential and the sum.",
            ),
            misconceptions=(
                Misconception(
                    "shares",
                    lambda counts, trust, prior: counts / counts.sum(dim=-1, keepdim=True),
                    "these are the shares of the votes.",
                ),
                Misconception(
                    "no prior",
                    lambda counts, trust, prior: posterior(counts, trust, torch.ones_like(prior)),
                    "the prior is left out.",
                ),
                Misconception("one rival", _one_rival, "all lies are thought to fall on one and the same colour."),
                Misconception("underflow", _products, "the product of many probabilities becomes 0."),
            ),
            rtol=1e-3,
            atol=1e-5,
        ),
        Question(
            id="q6",
            title="Design: a head that remembers more",
            kind="code",
            points=4,
            minutes=18,
            answer="long_vote",
            expects="for each place a share for every token, where longer matches (up to k) have larger scores.",
            reference=long_vote,
            cases=_long_cases,
            hints=(
                "For one place t and one place s before or at it: step back from t and from s - 1 together, and count.",
                "Stop at the first difference, at k, and at the beginning: Python takes place -1 for the last one.",
                "The rest is as in question 2: beta times the counts, hide later places, softmax, average.",
            ),
            misconceptions=(
                Misconception("gaps", partial(_wrong_long, "gaps"), "counting goes on after the first difference."),
                Misconception("only full", partial(_wrong_long, "only full"), "matches shorter than k count nothing."),
                Misconception("endless", partial(_wrong_long, "endless"), "matches longer than k count more than k."),
                Misconception("round", partial(_wrong_long, "round"), "what is before the beginning is the end."),
            ),
        ),
        Question(
            id="q7",
            title="Measure: looking up is not learning",
            kind="experiment",
            points=3,
            minutes=15,
            answer="looked_up",
            expects="the share of questions that have the label of the example with the largest dot product.",
            reference=0.724,
            accepts=lambda value: 0.704 <= value <= 0.744,
            hints=(
                "One question: 16 labels, 8 of each kind; 16 vectors and one more, with a label drawn at random.",
                "Dot products of the question with all examples; the label of the largest is the answer.",
                "torch.randn(20000, 16, 64) makes all prompts at once; add 1.5 times the label to column 0.",
            ),
            misconceptions=(
                Misconception("all examples", 0.816, "the dot products of all examples vote, not the largest alone."),
                Misconception("distance", 0.687, "the example with the smallest distance is taken."),
                Misconception("column 0", 0.934, "column 0 alone is looked at; a learner does not know which it is."),
                Misconception("chance", 0.5, "examples or question have no label in them."),
            ),
            atol=0.003,
        ),
    ),
)
