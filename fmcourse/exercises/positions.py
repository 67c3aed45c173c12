"""The exercise of `mathematics/positions`: from a score by hand to distances that training has seen."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from fmcourse.exercises.spec import Case, Draw, Exercise, Misconception, Question


def frequencies(width: int) -> Tensor:
    """By what angle each of the width / 2 pairs turns per position, the fastest first."""
    return 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)


def rotate(x: Tensor, positions: Tensor | int) -> Tensor:
    """Turn the neighbouring pairs of vectors (..., t, d) by their positions (t), or all by one, anticlockwise."""
    angle = torch.as_tensor(positions, device=x.device)[..., None] * frequencies(x.shape[-1]).to(x.device)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., 0::2], x[..., 1::2]
    return torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1).flatten(-2)


def shift(codes: Tensor, k: int) -> Tensor:
    """Rows (t, d) of the sinusoidal table, k positions further on."""
    return rotate(codes, -k)  # a pair is (sine, cosine): a growing angle turns it clockwise


def to_neighbours(weight: Tensor, n_heads: int) -> Tensor:
    """Reorder rows (heads * d, m), head by head, so that pairs (i, i + d/2) become pairs (2i, 2i + 1)."""
    return rearrange(weight, "(h two pair) m -> (h pair two) m", h=n_heads, two=2)


def cached_scores(query: Tensor, key: Tensor, cached: Tensor) -> Tensor:
    """Scores (..., t, s + t) of t new tokens after s cached ones, whose keys are already turned."""
    places = cached.shape[-2] + torch.arange(query.shape[-2])
    return _scores(rotate(query, places), torch.cat([cached, rotate(key, places)], dim=-2))


def _scores(query: Tensor, key: Tensor) -> Tensor:
    return query @ key.mT / query.shape[-1] ** 0.5


def alibi(query_positions: Tensor, key_positions: Tensor, n_heads: int) -> Tensor:
    """ALiBi's biases (h, t, s): minus slope times distance."""
    slopes = 2.0 ** (-8 * torch.arange(1, n_heads + 1) / n_heads)
    return -slopes[:, None, None] * (query_positions[:, None] - key_positions).abs()


def clipped_scores(query: Tensor, key: Tensor, furthest: int) -> Tensor:
    """Rotary scores (..., t, t) in which a key further back than `furthest` counts as `furthest` back."""
    # A query turned by `furthest` and a key that is not turned are `furthest` apart.
    return _far(query, key, furthest, rotate(query, furthest) @ key.mT)


def _far(query: Tensor, key: Tensor, furthest: int, far: Tensor) -> Tensor:
    distance = torch.arange(query.shape[-2])[:, None] - torch.arange(key.shape[-2])
    return torch.where(distance > furthest, far / query.shape[-1] ** 0.5, _rotary(query, key))


def _codes(positions: Tensor, width: int) -> Tensor:
    angle = positions[:, None] * frequencies(width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2).float()


def _halves(x: Tensor, positions: Tensor) -> Tensor:
    turned = rotate(rearrange(x, "... (two pair) -> ... (pair two)", two=2), positions)
    return rearrange(turned, "... (pair two) -> ... (two pair)", two=2)


def _one_hand(x: Tensor, positions: Tensor) -> Tensor:
    return rotate(rearrange(x, "... (pair two) -> ... pair two", two=2), positions[..., None]).flatten(-2)


def _way_back(weight: Tensor, n_heads: int) -> Tensor:
    return rearrange(weight, "(h pair two) m -> (h two pair) m", h=n_heads, two=2)


def _swapped(weight: Tensor, n_heads: int) -> Tensor:
    return rearrange(weight, "(h two pair) m -> two h pair m", h=n_heads, two=2).flip(0).transpose(0, 1).flatten(0, 2)


def _start(for_query: int, for_key: int, off: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Positions of new queries and keys begin at the size of the cache where it says 1, at zero where it says 0."""

    def wrong(query: Tensor, key: Tensor, cached: Tensor) -> Tensor:
        s, step = cached.shape[-2] + off, torch.arange(query.shape[-2])
        keys = torch.cat([cached, rotate(key, for_key * s + step)], dim=-2)
        return _scores(rotate(query, for_query * s + step), keys)

    return wrong


def _one_place(query: Tensor, key: Tensor, cached: Tensor) -> Tensor:
    s = cached.shape[-2]
    return _scores(rotate(query, s), torch.cat([cached, rotate(key, s)], dim=-2))


def _rotary(query: Tensor, key: Tensor, furthest: int = 10**6) -> Tensor:
    places = torch.arange(query.shape[-2]).clamp(max=furthest)  # positions, not distances
    return _scores(rotate(query, places), rotate(key, places))


def _places(draw: Draw, n: int) -> Tensor:
    return torch.randint(1, 50, (n,), generator=draw.generator)


def _shift_cases(draw: Draw) -> list[Case]:
    t, pairs, k, back = draw.sizes((3, 5), (3, 6), (2, 9), (2, 9))
    return [
        Case("position 0 of a table of width 2, one step on", (_codes(torch.tensor([0]), 2), 1)),
        Case("two positions, width 4", (_codes(_places(draw, 2), 4), 3)),
        Case("any positions, width and step", (_codes(_places(draw, t), 2 * pairs), k)),
        Case("a step back", (_codes(10 + _places(draw, t), 2 * pairs), -back)),
    ]


def _rotate_cases(draw: Draw) -> list[Case]:
    b, h, t, pairs = draw.sizes((2, 3), (4, 5), (6, 8), (5, 7))
    return [
        Case("one vector of width 2 at position 1", (draw.normal(1, 2), torch.tensor([1]))),
        Case("one vector of width 4 at position 3", (draw.normal(1, 4), torch.tensor([3]))),
        Case("positions that do not begin at zero", (draw.normal(3, 8), torch.tensor([5, 6, 7]))),
        Case("a batch of heads, positions in any order", (draw.normal(b, h, t, 2 * pairs), _places(draw, t))),
        Case("positions that are fractions", (draw.normal(t, 2 * pairs), _places(draw, t) / 4)),
    ]


def _neighbours_cases(draw: Draw) -> list[Case]:
    heads, pairs, m = draw.sizes((2, 4), (3, 6), (5, 9))
    return [
        Case("one head of width 4", (draw.normal(4, 1), 1)),
        Case("one head of width 8", (draw.normal(8, 3), 1)),
        Case("two heads of width 4", (draw.normal(8, 3), 2)),
        Case("any heads and widths", (draw.normal(heads * 2 * pairs, m), heads)),
    ]


def _cached_cases(draw: Draw) -> list[Case]:
    b, h, s, pairs = draw.sizes((2, 3), (4, 5), (6, 9), (5, 7))
    return [
        Case("one new token after one cached", tuple(draw.normal(3, 1, 2))),
        Case("two new tokens after three", (*draw.normal(2, 2, 4), draw.normal(3, 4))),
        Case("a batch of heads", (*draw.normal(2, b, h, 3, 2 * pairs), draw.normal(b, h, s, 2 * pairs))),
        Case("nothing cached yet", (*draw.normal(2, 3, 4), draw.normal(0, 4))),
    ]


def _alibi_cases(draw: Draw) -> list[Case]:
    t, s = draw.sizes((2, 4), (5, 8))
    return [
        Case("a query at position 2, its keys, two heads", (torch.tensor([2]), torch.arange(3), 2)),
        Case("four tokens, four heads; a key may stand after the query", (torch.arange(4), torch.arange(4), 4)),
        Case("a step with a cache: queries do not begin at zero", (torch.arange(s, s + t), torch.arange(s + t), 8)),
        Case("any positions", (_places(draw, t), _places(draw, s), 16)),
    ]


def _clipped_cases(draw: Draw) -> list[Case]:
    b, t, pairs, furthest = draw.sizes((2, 3), (7, 9), (5, 7), (2, 4))
    return [
        Case("three tokens, nothing counts as further than 1", (*draw.normal(2, 3, 2), 1)),
        Case("so short that nothing is too far", (*draw.normal(2, 4, 6), 9)),
        Case("a batch of any sizes", (*draw.normal(2, b, t, 2 * pairs), furthest)),
    ]


EXERCISE = Exercise(
    name="positions",
    chapter="mathematics/positions",
    title="Positions, from a score by hand to distances beyond training",
    given={"rotate": rotate},
    questions=(
        Question(
            id="q1",
            title="By hand, far out",
            kind="recall",
            points=1,
            minutes=5,
            answer="score",
            expects="the dot product of the two turned vectors, right to two digits.",
            # The key is at 90 degrees and turned two steps of 30 less than the query: 30 degrees between them.
            reference=3**0.5,
            hints=(
                "You need not turn anything by 30,270°. Which difference of positions counts, and why?",
                "Put the key where it is and turn the query by two steps. Draw both: which angle is between them?",
                "A dot product is the product of the lengths times the cosine of the angle.",
            ),
            misconceptions=(
                Misconception("not turned", 0.0, "neither of the two has been turned."),
                Misconception("the other way", -(3**0.5), "one of the two has been turned the wrong way."),
                Misconception("lengths forgotten", 3**0.5 / 2, "the length of the query is missing."),
                Misconception("one of the two", 1.0, "only one of the two has been turned."),
                Misconception("scaled", 1.5**0.5, "the score has been divided by the square root of the width."),
            ),
            atol=0.006,
        ),
        Question(
            id="q2",
            title="The clock, k positions later",
            kind="code",
            points=3,
            minutes=15,
            answer="shift",
            expects="for every row the row of the sinusoidal table k positions later, or earlier for a negative k.",
            reference=shift,
            cases=_shift_cases,
            hints=(
                "Take one pair (sin a, cos a). The angle grows by w. Write sin(a + w) and cos(a + w) with sin a and "
                "cos a: the addition formulas.",
                "The angle by which a pair moves does not depend on the position, only on k and on the pair: "
                "10,000^(-2i/d) k for pair i. How many pairs are there, and which columns belong to pair i?",
                "Even columns hold sines, odd ones cosines: codes[:, 0::2], codes[:, 1::2]. Put the new ones back so.",
            ),
            misconceptions=(
                Misconception("backwards", lambda codes, k: shift(codes, -k), "the clock is turned back, not on."),
                Misconception(
                    "one hand", lambda x, k: _one_hand(x, torch.tensor(-k)), "all pairs turn alike, at one pace."
                ),
                Misconception(
                    "halves", lambda x, k: _halves(x, torch.tensor(-k)), "the pairs are columns i and i + d/2."
                ),
                Misconception(
                    "added", lambda x, k: x + _codes(torch.tensor([k]), x.shape[-1]), "the code of position k is added."
                ),
            ),
            forbidden=frozenset({"sinusoidal", "SinusoidalPositions"}),
            atol=1e-4,
        ),
        Question(
            id="q3",
            title="Turn the word itself",
            kind="code",
            points=3,
            minutes=15,
            answer="rotate",
            expects="each pair (2i, 2i + 1) turned anticlockwise by its position times 10,000^(-2i/d).",
            reference=rotate,
            cases=_rotate_cases,
            hints=(
                "Begin with width 2 and one vector (x, y). Anticlockwise by the angle a, where does it go? "
                "Try a = 90°: (1, 0) must become (0, 1).",
                "The angles form a table (t, d/2): positions down, pairs across. Then every first entry of a pair, "
                "x[..., 0::2], is combined with the second, x[..., 1::2].",
                "(x cos a - y sin a, x sin a + y cos a). Mind the order when you put the pairs back: neighbours.",
            ),
            misconceptions=(
                Misconception("halves", _halves, "the pairs are entries i and i + d/2; here they are neighbours."),
                Misconception("clockwise", lambda x, places: rotate(x, -places), "the pairs are turned clockwise."),
                Misconception("one hand", _one_hand, "all pairs turn alike; each has a pace of its own."),
                Misconception(
                    "from zero", lambda x, n: rotate(x, torch.arange(len(n))), "the positions are counted from zero."
                ),
            ),
            forbidden=frozenset({"Rotary", "rotate_pairs"}),
            atol=1e-4,
        ),
        Question(
            id="q4",
            title="A checkpoint in the other layout",
            kind="code",
            points=2,
            minutes=10,
            answer="to_neighbours",
            expects="the same rows in another order: in every head, rows i and i + d/2 become rows 2i and 2i + 1.",
            reference=to_neighbours,
            cases=_neighbours_cases,
            hints=(
                "For one head of width 8: which old row comes to place 0, 1, 2, ...? Eight numbers; they begin 0, 4.",
                "Several heads are several such blocks of rows, one after the other: the width of a head is the "
                "number of rows divided by the number of heads.",
                "Within a head, think of the rows as a grid: two halves down, d/2 pairs across. Read it column by "
                "column. einops, reshape and transpose, or a list of indices all do it.",
            ),
            misconceptions=(
                Misconception(
                    "one large head", lambda weight, n_heads: to_neighbours(weight, 1), "all heads are treated as one."
                ),
                Misconception("the way back", _way_back, "this is the way back, from neighbours to halves."),
                Misconception("halves swapped", _swapped, "the halves of each head have changed places."),
                Misconception("untouched", lambda weight, n_heads: weight, "the rows are where they were."),
            ),
        ),
        Question(
            id="q5",
            title="Find the bug: good beginnings",
            kind="find the bug",
            points=3,
            minutes=10,
            answer="cached_scores",
            expects="the scores that these tokens have when the whole text is read at once, without a cache.",
            reference=cached_scores,
            cases=_cached_cases,
            hints=(
                "With nothing cached, as for the prompt, the scores are right. What is different at the second call?",
                "Where in the text does the first new token stand when s tokens are in the cache?",
                "The cached keys are turned already; only new queries and keys need positions, and those begin at s.",
            ),
            misconceptions=(
                Misconception("the bug itself", _start(0, 0, 0), "the new tokens still begin at position zero."),
                Misconception(
                    "keys from zero", _start(1, 0, 0), "the new queries are right; the new keys begin at zero."
                ),
                Misconception(
                    "turned again",
                    lambda q, k, old: cached_scores(q, k, rotate(old, torch.arange(old.shape[-2]))),
                    "the cached keys are turned again; they came turned.",
                ),
                Misconception("one place", _one_place, "all new tokens are put at the same position."),
                Misconception("one off", _start(1, 1, -1), "the new tokens stand one place too early."),
            ),
            atol=1e-4,
        ),
        Question(
            id="q6",
            title="Only the distance",
            kind="code",
            points=2,
            minutes=10,
            answer="alibi",
            expects="minus the head's slope times the distance, for every head, query and key: (h, t, s).",
            reference=alibi,
            cases=_alibi_cases,
            hints=(
                "First the distances, a table (t, s) of whole numbers that are never negative.",
                "Then the slopes, one for each head: for two heads 1/16 and 1/256.",
                "Give the slopes the shape (h, 1, 1), so that they meet the table. It is a penalty: mind the sign.",
            ),
            misconceptions=(
                Misconception("a reward", lambda *args: -alibi(*args), "distance is rewarded; a penalty has a minus."),
                Misconception(
                    "slopes from one", lambda *args: alibi(*args) * 2 ** (8 / args[-1]), "the slopes begin at 1."
                ),
                Misconception(
                    "signed", lambda m, n, h: alibi(m, n, h) * (m[:, None] - n).sign(), "keys after the query gain."
                ),
                Misconception(
                    "from zero",
                    lambda m, n, h: alibi(torch.arange(len(m)), torch.arange(len(n)), h),
                    "the positions are counted from zero; they are given.",
                ),
            ),
            forbidden=frozenset({"alibi_bias", "alibi_slopes"}),
        ),
        Question(
            id="q7",
            title="Measure: a word meets itself",
            kind="experiment",
            points=2,
            minutes=10,
            answer="share_left",
            expects="what part of its score with itself a vector of width 64 keeps, on average, at distance 100.",
            reference=0.5586,
            accepts=lambda value: 0.529 <= value <= 0.588,
            hints=(
                "Turn each vector twice, by two positions that are 100 apart (0 will do for one of them), and take "
                "the dot product of the two results.",
                "Divide each score by the dot product of the vector with itself; then take the mean over all vectors.",
            ),
            misconceptions=(
                Misconception("not turned apart", 1.0, "query and key stand at the same position."),
                Misconception("strangers", 0.0, "query and key are drawn independently; here they are the same."),
                Misconception("one hand", 0.862, "all pairs turn by the angle of the fastest."),
                Misconception("scaled", 4.47, "the score is divided by the square root of the width, not by its most."),
            ),
        ),
        Question(
            id="q8",
            title="Design: no distance that training has not seen",
            kind="code",
            points=3,
            minutes=15,
            answer="clipped_scores",
            expects="rotary scores, where every key further back than `furthest` counts as exactly `furthest` back.",
            reference=clipped_scores,
            cases=_clipped_cases,
            hints=(
                "Two tables of scores will do: one as usual, and one in which every query and every key are exactly "
                "`furthest` apart. Then choose, entry by entry.",
                "The score depends on the distance only. So you may put all keys at position 0; where must every "
                "query stand then?",
                "torch.where with the table of distances, queries down and keys across, chooses between the two.",
            ),
            misconceptions=(
                Misconception("as usual", lambda q, k, furthest: _rotary(q, k), "far keys are as far as ever."),
                Misconception("positions cut", _rotary, "positions are cut off at `furthest`; distances should be."),
                Misconception(
                    "far is here", lambda q, k, n: _far(q, k, n, q @ k.mT), "far keys count as no distance away at all."
                ),
                Misconception(
                    "behind",
                    lambda q, k, n: _far(q, k, n, q @ rotate(k, n).mT),
                    "far keys count as later.",
                ),
            ),
            atol=1e-4,
        ),
    ),
)
