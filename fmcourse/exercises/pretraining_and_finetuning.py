"""The exercise of `concepts/pretraining_and_finetuning`: hide words, adapt an encoder, judge fairly what it gained."""

from typing import Any

import torch
from torch import Tensor

from fmcourse.exercises.spec import Case, Draw, Exercise, Misconception, Question

NOTHING = -100


def hide_words(
    tokens: Tensor, may_hide: Tensor, lot: Tensor, fate: Tensor, stranger: Tensor, mask_id: int
) -> tuple[Tensor, Tensor]:
    """Inputs and targets of masked language modelling, from random numbers that are given."""
    chosen = may_hide & (lot < 0.15)
    inputs = tokens.masked_fill(chosen & (fate < 0.8), mask_id)
    inputs = torch.where(chosen & (fate >= 0.8) & (fate < 0.9), stranger, inputs)
    return inputs, tokens.masked_fill(~chosen, NOTHING)


def pooled(vectors: Tensor, real: Tensor) -> Tensor:
    """The mean of the vectors (b, t, d) at real tokens (b, t), whatever stands at the others: (b, d)."""
    return vectors.masked_fill(~real[..., None], 0).sum(dim=1) / real.sum(dim=1, keepdim=True)


def served(x: Tensor, weight: Tensor, bias: Tensor, a: Tensor, b: Tensor, task: Tensor, alpha: float) -> Tensor:
    """One linear layer for a batch of many tasks: row i of x goes through adapter task[i], or none where it is -1."""
    adapter = task.long().clamp(min=0)
    change = b[adapter] @ (a[adapter] @ x[:, :, None])
    return x @ weight.mT + bias + alpha / a.shape[1] * change[:, :, 0] * (task >= 0)[:, None]


def probe(x: Tensor, labels: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Weight (d) and bias of a linear head: ridge regression from x (n, d) to +1 for label 1 and -1 for label 0."""
    y = 2 * labels.to(x.dtype) - 1
    centred = x - x.mean(dim=0)
    gram = centred.mT @ centred + penalty * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    weight = torch.linalg.solve(gram, centred.mT @ (y - y.mean()))
    return weight, y.mean() - x.mean(dim=0) @ weight


def verdict(validation_a: Tensor, test_a: Tensor, validation_b: Tensor, test_b: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard error of method a minus method b over the draws, each at the setting that validation chose."""
    difference = test_a[validation_a.mean(dim=1).argmax()] - test_b[validation_b.mean(dim=1).argmax()]
    return mean_and_error(difference)


def mean_and_error(values: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of independent values, and its standard error."""
    return values.mean(), values.std() / len(values) ** 0.5


def forgetting(
    before: Tensor, after: Tensor, real: Tensor, labels: Tensor, orders: Tensor, size: int, penalty: float
) -> tuple[Tensor, Tensor]:
    """Points of accuracy that fresh probes lose when the encoder has been fine-tuned, and the standard error."""
    vectors = torch.stack([pooled(before, real), pooled(after, real)])
    return mean_and_error(_lost(vectors, vectors, labels, orders, size, penalty)[:, size:].mean(dim=1))


def _lost(learn: Tensor, judge: Tensor, labels: Tensor, orders: Tensor, size: int, penalty: float) -> Tensor:
    """In each order, for each text: 100 where only the old encoder's probe is right, -100 where only the new one's."""
    scores = torch.stack([_scores(*both, labels, orders, size, penalty) for both in zip(learn, judge, strict=True)])
    right = ((scores > 0) == (labels > 0)).gather(2, orders.long().expand(2, -1, -1)).double()
    return 100 * (right[0] - right[1])


def _scores(learn: Tensor, judge: Tensor, labels: Tensor, orders: Tensor, size: int, penalty: float) -> Tensor:
    """For each order a probe of its first texts, learnt from vectors `learn`; its scores of all vectors `judge`."""
    heads = [probe(learn[rows], labels[rows], penalty) for rows in orders[:, :size].long()]
    return torch.stack([judge @ weight + bias for weight, bias in heads])


def _hide_cases(draw: Draw) -> list[Case]:
    b, t = draw.sizes((2, 4), (12, 20))
    tokens, strangers = torch.randint(10, 1000, (2, b, t), generator=draw.generator)
    lot, fate = torch.rand(2, b, t, generator=draw.generator)
    six = torch.tensor([[11, 12, 13, 14, 15, 16]])
    lots, fates = torch.tensor([[0.9, 0.1, 0.05, 0.14, 0.5, 0.01], [0.4, 0.3, 0.85, 0.95, 0.85, 0.2]])[:, None]
    may = torch.tensor([[True, True, True, True, True, False]])
    return [
        Case("six tokens, the last a special one", (six, may, lots, fates, six + 20, 3)),
        Case("nothing special", (tokens, tokens > 0, 0.3 * lot, fate, strangers, 4)),
        Case("several texts with special tokens", (tokens, draw.mask(b, t), 0.4 * lot, fate, strangers, 2)),
    ]


def _pooled_cases(draw: Draw) -> list[Case]:
    b, t, d = draw.sizes((2, 3), (4, 5), (6, 8))
    one = torch.tensor([[True, True, False]])
    real = draw.mask(b, t)
    real[0], real[1] = True, torch.arange(t) < 2
    garbage = draw.normal(b, t, d).masked_fill(~real[..., None], torch.nan)
    return [
        Case("one text of two tokens, padded to three", (torch.tensor([[[1.0, 2], [3, 6], [0, 0]]]), one)),
        Case("texts of different lengths", (draw.normal(b, t, d), real)),
        Case("not a number at padding", (garbage, real)),
    ]


def _served_cases(draw: Draw) -> list[Case]:
    n, i, o, k, r = draw.sizes((9, 12), (4, 5), (6, 8), (3, 4), (2, 3))
    tasks, alpha = torch.arange(n) % (k + 1) - 1, 5.0
    layer, wide = (draw.normal(o, i), draw.normal(o)), (draw.normal(k, r, i), draw.normal(k, o, r))
    small = draw.normal(1, 2), draw.normal(1, 2), draw.normal(1), draw.normal(1, 2, 2), draw.normal(1, 1, 2)
    return [
        Case("one row, one adapter of rank 2", (*small, torch.tensor([0]), 3.0)),
        Case("many rows, all of the last task", (draw.normal(n, i), *layer, *wide, torch.full((n,), k - 1), alpha)),
        Case("many tasks, some rows without any", (draw.normal(n, i), *layer, *wide, tasks, alpha)),
    ]


def _probe_cases(draw: Draw) -> list[Case]:
    n, d = draw.sizes((8, 12), (3, 5))
    labels = torch.randint(2, (n,), generator=draw.generator)
    labels[:3] = torch.tensor([1, 1, 0])
    return [
        Case("two texts, vectors of one number", (1 + draw.normal(2, 1), torch.tensor([1, 0]), 0.5)),
        Case("more texts than numbers in a vector", (2 + draw.normal(n, d), labels, 2.0)),
        Case("fewer texts than numbers", (1 + draw.normal(d, n), labels[:d], 1.5)),
        Case("all labels alike", (draw.normal(3, d), torch.ones(3, dtype=torch.int64), 1.0)),
    ]


def _verdict_cases(draw: Draw) -> list[Case]:
    a, b, n = draw.sizes((4, 5), (2, 3), (6, 9))
    lift, lower = torch.zeros(2, a, 1)
    lift[1], lower[2] = 4, 9  # what validation likes best is not what the test likes best
    one = torch.tensor([[70.0, 72, 73], [76, 71, 74]]), torch.tensor([[80.0, 79, 81], [74, 76, 75]])
    other = torch.tensor([[70.0, 71, 72]]), torch.tensor([[71.0, 75, 73]]) + draw.normal(1)
    first, second, third, fourth = (70 + draw.normal(rows, n) for rows in (a, a, b, b))
    luck = 3 * draw.normal(n)  # of a draw, the same for all
    return [
        Case("two settings against one, three draws", (*one, *other)),
        Case("many settings and draws", (first + lift + luck, second + lower + luck, third + luck, fourth + luck)),
    ]


def _forgetting_cases(draw: Draw) -> list[Case]:
    t, d, draws = draw.sizes((3, 4), (5, 6), (7, 9))
    return [
        Case("six texts, two draws of three labels", _encoded(draw, 6, 2, 1, 2, 3)),
        Case("many texts and draws", _encoded(draw, 41, t, d, draws, 12)),
        Case("few labels", _encoded(draw, 32, t, d, draws, 5)),
    ]


def _encoded(draw: Draw, n: int, t: int, d: int, draws: int, size: int) -> tuple[Tensor | int | float, ...]:
    """Token vectors before and after, garbage at padding; drawn again while some score is too near zero to call."""
    labels, penalty = torch.arange(n) % 2, 1.0
    while True:
        real, kinds = draw.mask(n, t), (2 * labels - 1)[:, None, None] * draw.normal(d)
        garbage = 9 * draw.normal(2, n, t, d) * ~real[..., None]
        before, after = draw.normal(2, n, t, d) + garbage + torch.stack([kinds, 0.3 * kinds])
        orders = torch.stack([torch.randperm(n, generator=draw.generator) for _ in range(draws)])
        vectors = pooled(before, real), pooled(after, real)
        if min(_scores(x, x, labels, orders, size, penalty).abs().min() for x in vectors) > 1e-4:
            return before, after, real, labels, orders, size, penalty


# Mistakes that need more than a line.


def _targets_spoiled(tokens: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    inputs, targets = hide_words(tokens, *rest)
    return inputs, inputs.where(targets != NOTHING, targets)


def _through_origin(x: Tensor, labels: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    gram = x.mT @ x + penalty * torch.eye(x.shape[1])
    return torch.linalg.solve(gram, x.mT @ (2 * labels.to(x.dtype) - 1)), torch.zeros(())


def _bias_penalised(x: Tensor, labels: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    weight = _through_origin(torch.cat([x, torch.ones(len(x), 1)], dim=1), labels, penalty)[0]
    return weight[:-1], weight[-1]


def _unpaired(validation_a: Tensor, test_a: Tensor, validation_b: Tensor, test_b: Tensor) -> tuple[Tensor, Tensor]:
    a, b = test_a[validation_a.mean(dim=1).argmax()], test_b[validation_b.mean(dim=1).argmax()]
    return a.mean() - b.mean(), ((a.var() + b.var()) / len(a)).sqrt()


def _winner_of_each_draw(*tables: Tensor) -> tuple[Tensor, Tensor]:
    a, b = (test.gather(0, valid.argmax(dim=0)[None])[0] for valid, test in (tables[:2], tables[2:]))
    return mean_and_error(a - b)


def _forgot(before: Tensor, after: Tensor, real: Tensor, *rest: Any, mistake: str) -> tuple[Tensor, Tensor]:
    """The question of forgetting with a mistake in it."""
    where = torch.ones_like(real) if mistake == "padding" else real
    vectors, size = torch.stack([pooled(before, where), pooled(after, where)]), rest[2]
    lost = _lost(vectors[[0, 0]] if mistake == "old probe" else vectors, vectors, *rest)
    rows = {"learnt": slice(size), "all": slice(None)}.get(mistake, slice(size, None))
    return mean_and_error(lost[:, rows].mean(dim=1))


# fmt: off
EXERCISE = Exercise(
    name="pretraining_and_finetuning",
    chapter="concepts/pretraining_and_finetuning",
    title="Pretraining and fine-tuning, from hidden words to a fair verdict",
    given={"pooled": pooled, "probe": probe},
    questions=(
        Question(
            id="q1", title="LoRA by hand", kind="recall", points=2, minutes=10, answer="lora_by_hand",
            expects="a list of a whole number and a string: how many numbers LoRA trains, and the letters in order.",
            reference=[12 * 2 * 4 * (768 + 768), "abe"],
            hints=(
                "A has 4 rows of 768 numbers. How large is B? How many such pairs are there?",
                "Unchanged means that the layer as a whole gives W x at first. Which of the five do?",
                "To learn, A or B must get a gradient. That of B has the factors alpha and A, that of A alpha and B.",
            ),
            misconceptions=(
                Misconception(
                    "does not ask for learning", [147_456, "abcde"],
                    "the letters say which starts leave the model unchanged; not all of them can learn."),
                Misconception("only the usual start", [147_456, "a"], "the usual start is not the only one."),
                Misconception("not the shifted one", [147_456, "ab"], "one letter is missing: read (e) once more."),
                Misconception("half of it", [73_728, "abe"], "half of the numbers are missing."),
                Misconception("one block", [12_288, "abe"], "one block was counted; there are twelve."),
                Misconception("full", [14_155_776, "abe"], "these are the numbers of the frozen matrices."),
            ),
            rtol=0.0, atol=0.5,
        ),
        Question(
            id="q2", title="Hide words", kind="code", points=3, minutes=10, answer="hide_words",
            expects="the inputs, some tokens replaced, and the targets: true tokens where chosen, -100 elsewhere.",
            reference=hide_words, cases=_hide_cases,
            hints=(
                "First a mask of the chosen tokens. It alone says where there is a target; the fates come later.",
                "Where and masked_fill build new tensors. Take the targets from the tokens as they came.",
                "A chosen token with a fate of 0.9 or more stays as it is, and is asked for all the same.",
            ),
            misconceptions=(
                Misconception(
                    "asks for everything", lambda tokens, *rest: (hide_words(tokens, *rest)[0], tokens),
                    "every token is a target; only chosen ones should be."),
                Misconception(
                    "asks for what changed",
                    lambda tokens, *rest: (
                        hide_words(tokens, *rest)[0],
                        tokens.masked_fill(hide_words(tokens, *rest)[0] == tokens, NOTHING)),
                    "chosen tokens that stay as they are have no target; they should have one."),
                Misconception(
                    "always the mask",
                    lambda tokens, may, lot, fate, *rest: hide_words(tokens, may, lot, 0 * fate, *rest),
                    "every chosen token becomes the mask."),
                Misconception(
                    "special tokens hidden", lambda tokens, may, *rest: hide_words(tokens, may | True, *rest),
                    "tokens that may not be hidden are hidden."),
                Misconception(
                    "targets spoiled", _targets_spoiled,
                    "the targets are taken after the tokens were replaced: the model is asked for the mask."),
            ),
        ),
        Question(
            id="q3", title="Find the bug: the company a text keeps", kind="find the bug", points=3, minutes=10,
            answer="pooled",
            expects="for each text the mean of its real vectors, the same in any batch, whatever stands at padding.",
            reference=pooled, cases=_pooled_cases,
            hints=(
                "Try a text of two tokens with 1 and 3, padded to three. By what should the sum be divided?",
                "A search compares directions, and a factor does not change those. So what is the factor?",
                "The second bug: what is zero times nan? Put the zero there, do not multiply.",
            ),
            misconceptions=(
                Misconception(
                    "the bug itself", lambda vectors, real: (vectors * real[..., None]).sum(dim=1) / vectors.shape[1],
                    "the sum is still divided by the padded length."),
                Misconception(
                    "one bug of two",
                    lambda vectors, real: (vectors * real[..., None]).sum(dim=1) / real.sum(dim=1, keepdim=True),
                    "one of the two bugs is repaired; what stands at padding still gets through."),
                Misconception(
                    "padding averaged", lambda vectors, real: vectors.nan_to_num().mean(dim=1),
                    "padding is in the average."),
                Misconception(
                    "first token", lambda vectors, real: vectors[:, 0], "the first vector stands for the whole text."),
            ),
        ),
        Question(
            id="q4", title="One model, many customers", kind="code", points=3, minutes=15, answer="served",
            expects="W x + bias for every row, and the change alpha / r B A x of its own adapter, if it has one.",
            reference=served, cases=_served_cases,
            forbidden=frozenset({"LoRALinear", "add_lora"}),
            hints=(
                "Begin with one adapter for all rows: A x is x @ a.mT for rows of x. Then which a for which row?",
                "a[task] gives every row its own matrix, (n, r, d_in); einsum, or @ on (n, d_in, 1), does the rest.",
                "In Python -1 is the last element. Compute the change with any adapter there, then let it not count.",
            ),
            misconceptions=(
                Misconception(
                    "-1 is the last", lambda x, weight, bias, a, b, task, alpha: served(
                        x, weight, bias, a, b, task % len(a), alpha),
                    "rows without a task get the last adapter: that is what index -1 means to torch."),
                Misconception(
                    "not divided by r", lambda x, weight, bias, a, b, task, alpha: served(
                        x, weight, bias, a, b, task, alpha * a.shape[1]),
                    "the change is multiplied by alpha, but not divided by r."),
                Misconception(
                    "first row's adapter", lambda x, weight, bias, a, b, task, alpha: served(
                        x, weight, bias, a, b, task[:1].expand(len(x)), alpha),
                    "all rows get the adapter of the first."),
                Misconception(
                    "no bias", lambda x, weight, bias, *rest: served(x, weight, 0 * bias, *rest),
                    "the bias is missing."),
            ),
        ),
        Question(
            id="q5", title="A probe in closed form", kind="code", points=3, minutes=15, answer="probe",
            expects="the weight (d,) and the bias, a number, that make the penalised sum of squares smallest.",
            reference=probe, cases=_probe_cases,
            forbidden=frozenset({"Ridge", "RidgeClassifier", "LogisticRegression", "sklearn"}),
            hints=(
                "For any weight the best bias makes the mean error zero. So the bias drops out if x and y are centred.",
                "With centred x and y the best w solves (x' x + penalty times identity) w = x' y; x' is x transposed.",
                "torch.linalg.solve gives w. The bias is the mean of y minus w times the mean of x.",
            ),
            misconceptions=(
                Misconception("bias penalised", _bias_penalised, "the bias is penalised, too."),
                Misconception("through the origin", _through_origin, "there is no bias."),
                Misconception(
                    "zero and one", lambda x, labels, penalty: tuple(
                        part / 2 + shift for part, shift in zip(probe(x, labels, penalty), (0, 0.5), strict=True)),
                    "the labels are fitted as 0 and 1, not as -1 and +1."),
                Misconception(
                    "penalty for each text", lambda x, labels, penalty: probe(x, labels, penalty * len(x)),
                    "the mean of the squares is taken in place of their sum: the penalty weighs n times as much."),
            ),
        ),
        Question(
            id="q6", title="A fair verdict", kind="code", points=2, minutes=10, answer="verdict",
            expects="the mean of the differences a minus b on the test, one for each draw, and its standard error.",
            reference=verdict, cases=_verdict_cases,
            forbidden=frozenset({"ttest_rel", "sem"}),
            hints=(
                "Two steps. Validation names one setting (one row) for each method; only then does the test speak.",
                "Subtract draw by draw first: what a lucky draw gives to both methods is gone then. How far do these "
                "differences scatter?",
                "The standard error is their standard deviation (with n - 1) over the root of n.",
            ),
            misconceptions=(
                Misconception(
                    "chosen on the test", lambda va, ta, vb, tb: verdict(ta, ta, tb, tb),
                    "the setting is chosen by its test accuracy."),
                Misconception("unpaired", _unpaired, "the error is that of two separate means; the draws are pairs."),
                Misconception(
                    "another winner for each draw", _winner_of_each_draw,
                    "a setting is chosen anew for each draw; one for all is asked for."),
                Misconception(
                    "spread", lambda *tables: (verdict(*tables)[0], verdict(*tables)[1] * tables[0].shape[1] ** 0.5),
                    "this is the standard deviation of the differences, not the standard error of their mean."),
            ),
        ),
        Question(
            id="q7", title="Design: what was forgotten?", kind="code", points=4, minutes=15, answer="forgetting",
            expects="the mean over the orders of accuracy before minus after, in points, and its standard error.",
            reference=forgetting, cases=_forgetting_cases,
            forbidden=frozenset({"Ridge", "RidgeClassifier", "LogisticRegression", "sklearn"}),
            hints=(
                "Pool both encoders' vectors once. Then for each order: two probes, two accuracies, one difference.",
                "order[:size] are the rows to learn from, order[size:] those to judge by.",
                "A text counts as right if the sign of its score fits its label. The error is that of question 6.",
            ),
            misconceptions=(
                Misconception(
                    "judged on what was learnt", lambda *a: _forgot(*a, mistake="learnt"),
                    "the probes are judged on the texts that they learnt from."),
                Misconception(
                    "judged on all", lambda *a: _forgot(*a, mistake="all"),
                    "the texts that the probes learnt from are among those that judge them."),
                Misconception(
                    "old probe", lambda *a: _forgot(*a, mistake="old probe"),
                    "the old probe judges the new vectors; each encoder should get a probe of its own."),
                Misconception(
                    "padding counted", lambda *a: _forgot(*a, mistake="padding"), "padding is in the means."),
                Misconception(
                    "sign", lambda *a: (-forgetting(*a)[0], forgetting(*a)[1]), "this is after minus before."),
            ),
        ),
        Question(
            id="q8", title="Measure: the winner's luck", kind="experiment", points=2, minutes=5, answer="luck",
            expects="by how many points the best of ten equal settings beats 75 % on 500 test texts, on average.",
            reference=2.95, accepts=lambda value: 2.7 <= value <= 3.2, rtol=0.02,
            hints=(
                "One repetition is a table of ten rows of 500 coins, torch.rand(10, 500) < 0.75. Which row is best?",
                "Repeat it a thousand times or more, average the best, subtract 75.",
            ),
            misconceptions=(
                Misconception("no choice", 0.0, "this is the mean of all settings, not of the best."),
                Misconception("a share", 0.0295, "this is a share; points are hundredths."),
                Misconception("one standard error", 1.936, "this is the standard error of one setting."),
                Misconception("best minus worst", 5.95, "this is the distance from the worst to the best."),
            ),
        ),
    ),
)
