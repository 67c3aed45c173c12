"""The exercise of `concepts/what_is_a_foundation_model`: frozen vectors, heads without training, honest comparisons."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fmcourse.exercises.compare import difference
from fmcourse.exercises.spec import Case, Draw, Exercise, Misconception, Question

Answer = tuple[float, float]


def embed(vectors: Tensor, real: Tensor) -> Tensor:
    """The mean over the real tokens (b, t) of vectors (b, t, m), brought to length 1: (b, m)."""
    return F.normalize((vectors * real[:, :, None]).sum(dim=1), dim=-1)


def nearest_mean(vectors: Tensor, labels: Tensor, queries: Tensor, n_classes: int) -> Tensor:
    """For each query (..., q, m) the class whose mean, brought to length 1, has the largest dot product with it."""
    member = labels[..., None, :] == torch.arange(n_classes, device=labels.device)[:, None]
    means = F.normalize(member.to(vectors.dtype) @ vectors, dim=-1)  # a sum points where the mean points
    return (queries @ means.mT).argmax(dim=-1)


def tfidf(train: list[str], texts: list[str]) -> Tensor:
    """A unit vector for each text, a number for each word of `train`; weights come from `train` alone."""
    return _tfidf(train, texts, known=train)


def _tfidf(train: list[str], texts: list[str], known: list[str], counted: bool = True) -> Tensor:
    words = sorted({word for text in train for word in text.split()})
    n_with = [sum(word in text.split() for text in known) for word in words]
    weights = [math.log((1 + len(known)) / (1 + n)) + 1 if counted else 1.0 for n in n_with]
    counts = torch.tensor([[text.split().count(word) for word in words] for text in texts])
    return F.normalize(counts * torch.tensor(weights), dim=-1)


def lead(truth: Tensor, first: Tensor, second: Tensor) -> Answer:
    """By how much `first` is right more often than `second`, on the same texts, and the standard error of that."""
    gain = (first == truth).double() - (second == truth).double()
    return gain.mean().item(), gain.std(correction=0).item() / len(gain) ** 0.5


def crossing(sizes: list[int], first: list[float], second: list[float]) -> float:
    """The number of labels where `second` overtakes `first`, straight lines on a logarithmic axis."""
    leads = [b - a for a, b in zip(first, second, strict=True)]
    i = next(i for i, ahead in enumerate(leads) if ahead > 0)
    share = -leads[i - 1] / (leads[i] - leads[i - 1])
    return math.exp((1 - share) * math.log(sizes[i - 1]) + share * math.log(sizes[i]))


def trial(vectors: Tensor, labels: Tensor, n_test: int, order: Tensor) -> dict[str, float]:
    """Accuracy on the last `n_test` texts: of a guess, of the vectors, and of vectors dealt to the wrong texts."""
    known, truth = labels[:-n_test], labels[-n_test:]
    answers = {"guess": known.bincount().argmax().expand(n_test)}
    for name, x in {"encoder": vectors, "broken": vectors[order]}.items():
        answers[name] = nearest_mean(x[:-n_test], known, x[-n_test:], int(labels.max()) + 1)
    return {name: (answer == truth).double().mean().item() for name, answer in answers.items()}


def _wrong_embed(mistake: str, vectors: Tensor, real: Tensor) -> Tensor:
    real = real[:, :, None]
    return {
        "padding": F.normalize(vectors.mean(dim=1), dim=-1),
        "not of length 1": (vectors * real).sum(dim=1) / real.sum(dim=1),
        "first token": F.normalize(vectors[:, 0], dim=-1),
        "tokens first": F.normalize((F.normalize(vectors, dim=-1) * real).sum(dim=1), dim=-1),
    }[mistake]


def _wrong_nearest(mistake: str, vectors: Tensor, labels: Tensor, queries: Tensor, n_classes: int) -> Tensor:
    if mistake == "nearest text":
        return labels[(queries @ vectors.mT).argmax(dim=-1)]
    sums = torch.stack([vectors[labels == k].sum(dim=0) for k in range(n_classes)])
    counts = labels.bincount(minlength=n_classes)[:, None]
    if mistake == "distance":
        return torch.cdist(queries, sums / counts).argmin(dim=-1)
    near = queries @ {"sums": sums, "means": sums / counts}.get(mistake, F.normalize(sums, dim=-1)).mT
    return near.argmin(dim=-1) if mistake == "farthest" else near.argmax(dim=-1)


def _wrong_tfidf(mistake: str, train: list[str], texts: list[str]) -> Tensor:
    if mistake == "words, too":
        return _tfidf(train + texts, texts, known=train)
    if mistake == "one by one":
        return torch.cat([_tfidf(train, [text], known=[*train, text]) for text in texts])
    known = {"the bug itself": train + texts, "texts alone": texts}.get(mistake, train)
    return _tfidf(train, texts, known, counted=mistake != "no weights")


def _wrong_lead(mistake: str, truth: Tensor, first: Tensor, second: Tensor) -> Answer:
    (mean, error), n = lead(truth, first, second), len(truth)
    p, q = ((answers == truth).double().mean().item() for answers in (first, second))
    return {
        "not paired": (mean, ((p * (1 - p) + q * (1 - q)) / n) ** 0.5),
        "standard deviation": (mean, error * n**0.5),
        "variance": (mean, error**2),
        "other sign": (-mean, error),
        "where they differ": (mean, error * (n / max(1, int((first != second).sum()))) ** 0.5),
    }[mistake]


def _wrong_crossing(mistake: str, sizes: list[int], first: list[float], second: list[float]) -> float:
    i = next(i for i, (a, b) in enumerate(zip(first, second, strict=True)) if b > a)
    behind, ahead = first[i - 1] - second[i - 1], second[i] - first[i]
    return {
        "linear": sizes[i - 1] + behind / (behind + ahead) * (sizes[i] - sizes[i - 1]),
        "measured": float(sizes[i]),
        "logarithm": math.log(crossing(sizes, first, second)),
        "middle": (sizes[i - 1] * sizes[i]) ** 0.5,
        "other end": math.exp(math.log(sizes[i - 1] * sizes[i]) - math.log(crossing(sizes, first, second))),
    }[mistake]


def _wrong_trial(mistake: str, vectors: Tensor, labels: Tensor, n_test: int, order: Tensor) -> dict[str, float]:
    found, truth = trial(vectors, labels, n_test, order), labels[-n_test:]
    if mistake == "test on training":
        return trial(torch.cat([vectors] * 2), torch.cat([labels] * 2), len(labels), torch.cat([order] * 2))
    if mistake == "first ones":
        return trial(vectors.flip(0), labels.flip(0), n_test, len(labels) - 1 - order.flip(0))
    if mistake == "labels, too":
        return found | {"broken": trial(vectors[order], labels[order], n_test, order)["encoder"]}
    if mistake == "test guess":
        return found | {"guess": (truth == truth.mode().values).double().mean().item()}
    return found | {"guess": 1 / (int(labels.max()) + 1)}


def _known(wrong: Callable[..., Any], says: dict[str, str]) -> tuple[Misconception, ...]:
    return tuple(Misconception(name, partial(wrong, name), text) for name, text in says.items())


_NEAREST = _known(_wrong_nearest, {
    "nearest text": "each query gets the label of the nearest single text; the mean of each class is asked for.",
    "sums": "the vectors of a class are only added up: large classes then win.",
    "means": "the means are not brought to length 1.",
    "distance": "distances to the plain means are compared; compare directions, by means of length 1.",
    "farthest": "each query gets the class that is farthest from it.",
})  # fmt: skip
_TRIAL = _known(_wrong_trial, {
    "labels, too": "the labels are dealt along with the vectors, so that nothing is broken.",
    "test guess": "the guess is the most frequent label of the *test* texts, which nobody knows beforehand.",
    "even guess": "the guess is taken to be 1 over the number of classes.",
    "first ones": "the first texts are kept for the test; keep the last ones.",
    "test on training": "the texts of the test are among those that were learned from.",
})  # fmt: skip


def _telling(make: Callable[[], tuple[Any, ...]], right: Callable[..., Any], known: tuple[Misconception, ...]) -> Any:
    """Draw arguments until each of these mistakes shows."""
    while True:
        args = make()
        if all(difference(one.answer(*args), right(*args), rtol=0.01, atol=0.01) for one in known):
            return args


def _embed_cases(draw: Draw) -> list[Case]:
    b, t, m = draw.sizes((2, 3), (5, 7), (8, 12))
    return [
        Case("one text, two real tokens and one of padding", (
            torch.tensor([[[3.0, 0.0], [0.0, 1.0], [-5.0, 5.0]]]), torch.tensor([[True, True, False]]))),
        Case("several texts, real tokens anywhere", (draw.normal(b, t, m), draw.mask(b, t))),
        Case("no padding", (draw.normal(b, t, m) + 1, torch.ones(b, t, dtype=torch.bool))),
    ]  # fmt: skip


def _grouped(draw: Draw, sizes: list[int], m: int, spread: float) -> tuple[Tensor, Tensor]:
    """Unit vectors around a centre for each class, so many of each, and their labels, shuffled."""
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    vectors = F.normalize(draw.normal(len(sizes), m)[labels] + spread * draw.normal(len(labels), m), dim=-1)
    shuffled = torch.randperm(len(labels), generator=draw.generator)
    return vectors[shuffled], labels[shuffled]


def _nearest_cases(draw: Draw) -> list[Case]:
    small = F.normalize(torch.tensor([[1.0, 0.1], [1.0, 0.3], [0.1, 1.0]]), dim=-1)

    def several() -> tuple[Any, ...]:
        while True:
            vectors, labels = _grouped(draw, draw.sizes((2, 3), (9, 12), (4, 6)), 6, 1.0)
            queries = F.normalize(draw.normal(17, 6), dim=-1)
            means = F.normalize(torch.stack([vectors[labels == k].mean(dim=0) for k in range(3)]), dim=-1)
            best = (queries @ means.mT).topk(2).values
            if (best[:, 0] - best[:, 1]).min() > 0.001:  # nothing that rounding could decide
                return vectors, labels, queries, 3

    return [
        Case("two classes in the plane", (small, torch.tensor([0, 0, 1]), small.flip(0)[:2], 2)),
        Case("three classes, of different size", _telling(several, nearest_mean, _NEAREST)),
    ]


def _text(draw: Draw, words: str, length: int) -> str:
    return " ".join(words[i] for i in torch.randint(len(words), (length,), generator=draw.generator).tolist())


def _tfidf_cases(draw: Draw) -> list[Case]:
    n, length = draw.sizes((5, 8), (4, 7))
    train = ["a b c d e f g h", *(_text(draw, "aabbcdefgh", length) for _ in range(n))]
    texts = ["h h a x", *(_text(draw, "cdefghxyz", length) for _ in range(4))]
    return [
        Case("one text with two known words", (["red car", "red house"], ["red car car"])),
        Case("a text without a known word", (["red car", "red house"], ["blue sky", "car red"])),
        Case("several texts", (train, texts)),
    ]


def _lead_cases(draw: Draw) -> list[Case]:
    n = draw.sizes((150, 250))[0]
    truth = torch.randint(3, (n,), generator=draw.generator)
    noise = torch.rand(3, n, generator=draw.generator)
    hard, first, second = noise[0] < 0.3, noise[1] < 0.1, noise[2] < 0.2  # hard for both, and slips of each
    answers = [(truth + (hard | slips)) % 3 for slips in (first, second)]
    return [
        Case("four texts", (torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, 0, 1]))),
        Case("two methods that agree everywhere", (truth, answers[0], answers[0].clone())),
        Case("three classes, two methods that often fail together", (truth, *answers)),
    ]


def _crossing_cases(draw: Draw) -> list[Case]:
    def steps(n: int) -> list[float]:
        return (0.02 + 0.05 * torch.rand(n, generator=draw.generator, dtype=torch.float64)).cumsum(0).tolist()

    n, at = draw.sizes((5, 6), (1, 3))
    sizes = torch.tensor([10, 35, 120, 400, 1500, 5000])[:n]
    first = [0.5 + y / 3 for y in steps(n)]
    ahead = [-y for y in steps(at + 1)[::-1]] + [y / 2 for y in steps(n - at - 1)]
    return [
        Case("two sizes", ([10, 1000], [0.6, 0.7], [0.5, 0.9])),
        Case("several sizes", (sizes.tolist(), first, [y + more for y, more in zip(first, ahead, strict=True)])),
    ]


def _trial_cases(draw: Draw) -> list[Case]:
    def drawn(sizes: tuple[int, ...], n_test: int) -> tuple[Any, ...]:
        while True:
            vectors, labels = _grouped(draw, list(sizes), 5, 0.7)
            counts = labels[:-n_test].bincount(minlength=len(sizes)).sort(descending=True).values
            if counts[-1] > 0 and counts[0] > counts[1]:
                return vectors, labels, n_test, torch.randperm(len(labels), generator=draw.generator)

    small = F.normalize(torch.tensor([[1.0, 0.1], [0.9, 0.3], [0.1, 1.0], [0.3, 0.9], [0.2, 1.0]]), dim=-1)
    order, n_test = torch.tensor([2, 3, 0, 1, 4]), draw.sizes((12, 16))[0]
    return [
        Case("three texts to learn from, two for the test", (small, torch.tensor([0, 0, 1, 1, 1]), 2, order)),
        Case("three classes", _telling(lambda: drawn((20, 14, 9), n_test), trial, _TRIAL)),
    ]


EXERCISE = Exercise(
    name="what_is_a_foundation_model", chapter="concepts/what_is_a_foundation_model",
    title="Foundation models, from frozen vectors to an honest comparison",
    given={"nearest_mean": nearest_mean},
    questions=(
        Question(
            id="q1", title="With a pencil: doubling", kind="recall", points=1, minutes=5, answer="months_to_double",
            expects="the number of months in which the size doubles, right to one tenth of a month.",
            # a factor of 1000 is 9.97 doublings; 60 months
            reference=60 * math.log(2) / math.log(1000), rtol=0.0, atol=0.1,
            hints=(
                "A hundred million to a hundred billion is a factor of 1000. How many doublings is that, roughly?",
                "Two to the tenth is 1024. So many doublings in five years, which are sixty months.",
            ),
            misconceptions=(
                Misconception("in years", 5 * math.log(2) / math.log(1000), "this is in years."),
                Misconception("tenfold", 20.0, "this is the time for a factor of ten."),
                Misconception("natural", 60 / math.log(1000), "this is the time for a factor of e, about 2.7."),
                Misconception("factor a year", 1000**0.2, "this is the factor for one year."),
            ),
        ),
        Question(
            id="q2", title="From tokens to a text", kind="code", points=2, minutes=8, answer="embed",
            expects="the mean of the vectors of the real tokens of each text, brought to length 1.",
            reference=embed, cases=_embed_cases,
            hints=(
                "The vectors of padding must not count, neither in the sum nor in the number of tokens.",
                "Multiply by the mask, with a new last axis, before you add up over the tokens.",
                "Length 1: divide each text's vector by its own norm, the root of the sum of its squares.",
            ),
            misconceptions=_known(_wrong_embed, {
                "padding": "the padding is averaged, too.",
                "not of length 1": "the means are not brought to length 1.",
                "first token": "the first token is taken for the whole text.",
                "tokens first": "each token is brought to length 1 before the mean; do it once, after the mean.",
            }),
        ),
        Question(
            id="q3", title="A classifier without training", kind="code", points=3, minutes=12, answer="nearest_mean",
            expects="for each query the class whose mean, brought to length 1, has the largest dot product with it.",
            reference=nearest_mean, cases=_nearest_cases, misconceptions=_NEAREST,
            hints=(
                "Which rows of `vectors` have label 0? Their mean is one vector. Do the same for each class.",
                "Bring each mean to length 1, so that neither its size nor that of its class plays a part.",
                "One matrix product gives all dot products, (q, n_classes); then the place of the largest in each row.",
            ),
        ),
        Question(
            id="q4", title="Find the bug: today another answer", kind="find the bug", points=3, minutes=12,
            answer="tfidf",
            expects="vectors with weights that come from `train` alone, whatever other texts are to be represented.",
            reference=tfidf, cases=_tfidf_cases,
            hints=(
                "Call it for one text alone, and for the same text together with others. What changes, and why?",
                "Who may say how rare a word is? The texts of the test have not arrived yet when that is learned.",
                "The list of words is right. Look at the texts that are counted for the weights.",
            ),
            misconceptions=_known(_wrong_tfidf, {
                "the bug itself": "the texts of the test still have a say in how rare a word is.",
                "texts alone": "the weights come from the new texts alone; they should come from `train`.",
                "one by one": "each new text is counted with `train`; a text of the test should have no say at all.",
                "words, too": "words that are only in the new texts get a number; the head has never seen them.",
                "no weights": "words are not weighed any more.",
            }),
        ),
        Question(
            id="q5", title="Ahead, and how surely?", kind="code", points=3, minutes=12, answer="lead",
            expects="two numbers: the difference of the accuracies, first minus second, and its standard error.",
            reference=lead, cases=_lead_cases,
            hints=(
                "For one text, the lead is 1 if only the first is right, -1 if only the second is, else 0.",
                "The lead as a whole is the mean of these n numbers. What is the standard error of a mean?",
                "Their standard deviation (divide by n), over the root of n. Two separate errors, one for each method, "
                "would forget that both sat the same examination.",
            ),
            misconceptions=_known(_wrong_lead, {
                "not paired": "the two methods are treated as if they had been tested on different texts.",
                "standard deviation": "this is the standard deviation for one text; the mean of n texts varies less.",
                "variance": "this is the variance of the mean, the square of its standard error.",
                "other sign": "the second is compared with the first; the first minus the second is asked for.",
                "where they differ": "only texts on which the two differ are counted in n; all of them count.",
            }),
        ),
        Question(
            id="q6", title="Where counting catches up", kind="code", points=3, minutes=10, answer="crossing",
            expects="the number of labels, not rounded, where the two lines on the logarithmic axis meet.",
            reference=crossing, cases=_crossing_cases,
            hints=(
                "Find the first size at which the second is ahead. The lines meet between it and the size before.",
                "Between two sizes the lead of the first goes from some number above 0 to one below, in a straight "
                "line. At which share of the way is it 0?",
                "Go that share of the way from one logarithm of the size to the other, then undo the logarithm.",
            ),
            misconceptions=_known(_wrong_crossing, {
                "linear": "the lines are straight on a plain axis; the axis is logarithmic.",
                "measured": "this is the first measured size at which the second is ahead.",
                "logarithm": "this is the logarithm of the number of labels.",
                "middle": "this is the middle between two sizes, whatever the leads.",
                "other end": "the share of the way is measured from the wrong end.",
            }),
        ),
        Question(
            id="q7", title="An honest trial", kind="code", points=4, minutes=15, answer="trial",
            expects="a dict with the accuracies 'guess', 'encoder' and 'broken', all on the last n_test texts.",
            reference=trial, cases=_trial_cases, misconceptions=_TRIAL,
            hints=(
                "Part vectors and labels: the last n_test for the test, all before for learning.",
                "given.nearest_mean answers for the encoder. The guess looks at the labels for learning only.",
                "Broken: the very same steps with vectors[order] in the place of vectors. The labels stay.",
            ),
        ),
        Question(
            id="q8", title="Measure: one label each", kind="experiment", points=2, minutes=12, answer="one_shot",
            expects="the mean accuracy on new texts with one labelled text of each class, over 400 draws.",
            reference=0.704, accepts=lambda value: 0.655 <= value <= 0.738,
            hints=(
                "A text of class 0 is torch.randn(100) + 0.2, one of class 1 is torch.randn(100) - 0.2.",
                "Each draw: one of each to learn from, 20 of each for the test, nearest means, and the accuracy.",
            ),
            misconceptions=(
                Misconception("ten labels", 0.907, "there are ten labelled texts of each class."),
                Misconception("known means", 0.977, "the true means are used; learn them from one text each."),
                Misconception("test on training", 1.0, "the labelled texts themselves are the test."),
                Misconception("a guess", 0.5, "nothing is learned: this is guessing."),
            ),
        ),
    ),
)  # fmt: skip
