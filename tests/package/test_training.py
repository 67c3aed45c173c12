"""Training equals a plain PyTorch loop; batches, precision and compilation change only what they are meant to."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from builders import (
    assert_same,
    config,
    ids,
    padding,
    small_data,
    small_model,
    small_text,
    small_training,
    weights,
)
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from worker import WorkerData

from fmcourse.data.batch import IGNORE, Batch
from fmcourse.training import evaluate, fit
from fmcourse.transformer import BERT, Seq2Seq

COLUMNS = ["step", "train_loss", "val_loss", "learning_rate", "tokens_per_second", "seconds"]


def train(model, data=None, **changes):
    """Train the model on the small text (or other data) in silence."""
    return fit(model, small_data() if data is None else data, small_training(**changes), device="cpu", progress=False)


# ------------------------------------------------------------------------------------------------- against plain loops


def plain_loop(model, data, *, steps, batch_size, lr, warmup, clip, label_smoothing=0.0, decay=0.1):
    """The same training as anyone would write it in PyTorch."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))

    def factor(step):
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))

    scheduler, losses = LambdaLR(optimizer, factor), []
    for step in range(steps):
        batch = data.batch(step, batch_size)
        logits = model(batch.inputs["tokens"])
        loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), label_smoothing=label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        scheduler.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("clip", [0.3, 100.0])
def test_fit_equals_a_plain_pytorch_loop(clip, label_smoothing):
    """Without biases: that of a key has no effect, so its gradient is rounding noise, which Adam would blow up."""
    ours, theirs, data = small_model(bias=False), small_model(bias=False), small_data()
    options = {"steps": 12, "batch_size": 6, "lr": 3e-3, "warmup": 2, "clip": clip, "label_smoothing": label_smoothing}
    losses = plain_loop(theirs, data, **options)
    history = train(ours, **options)
    assert_same(weights(ours), weights(theirs), atol=1e-6)
    assert history.column("step") == [5, 10, 12]
    wanted = [sum(losses[a:b]) / (b - a) for a, b in ((0, 5), (5, 10), (10, 12))]
    assert history.column("train_loss") == pytest.approx(wanted, abs=1e-6)


@torch.no_grad()
def plain_validation_loss(model, data, starts):
    """Mean loss over the windows that begin there, one token at a time."""
    total, text = 0.0, data.validation_ids
    for start in starts:
        window = text[start : start + data.context + 1]
        logits = model(window[None, :-1])[0].log_softmax(dim=-1)
        total -= sum(float(logits[i, window[i + 1]]) for i in range(data.context))
    return total / (len(starts) * data.context)


def test_validation_loss_is_the_mean_over_all_windows_whatever_the_batch_size():
    model, data = small_model().eval(), small_data()
    everything = range(0, len(data.validation_ids) - 17, 17)
    wanted = plain_validation_loss(model, data, everything)
    for size in (1, 4, 1000):
        assert evaluate(model, data.validation(size)) == pytest.approx(wanted, abs=1e-6)


def test_evaluation_switches_dropout_off_and_the_mode_back():
    model, data = small_model(dropout=0.5), small_data()
    for mode in (True, False):
        model.train(mode)
        assert evaluate(model, data.validation(4)) == evaluate(model, data.validation(4))
        assert model.training == mode


def test_hidden_targets_do_not_count():
    model, (batch,) = small_model().eval(), small_data().validation(5, limit=5)
    targets = batch.targets.clone()
    targets[padding([3, 17, 1, 8, 2], 17)] = IGNORE
    with torch.no_grad():
        wanted = F.cross_entropy(model(**batch.inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
    assert evaluate(model, iter([replace(batch, targets=targets)])) == pytest.approx(float(wanted), abs=1e-6)
    with pytest.raises(ValueError, match="batches hold no target to score"):
        evaluate(model, iter([replace(batch, targets=torch.full_like(targets, IGNORE))]))


# ---------------------------------------------------------------------------------- accumulation, precision, compiling


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("accumulate", [2, 3, 6])
def test_accumulated_micro_batches_equal_the_whole_batch(accumulate, optimizer):
    """In float64; Muon rounds to bfloat16 inside, which turns the last digit of a gradient into 1e-3 of a step."""
    torch.set_default_dtype(torch.float64)
    try:
        whole, parts = small_model(), small_model()
        train(whole, optimizer=optimizer, precision="fp32")
        train(parts, optimizer=optimizer, precision="fp32", accumulate=accumulate)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_same(weights(parts), weights(whole), atol=1e-6 if optimizer == "adamw" else 1e-3)


def test_accumulation_weighs_every_target_alike_even_when_micro_batches_hold_different_numbers():
    whole, parts = small_model(), small_model()
    train(whole, WorkerData(masked=True))
    train(parts, WorkerData(masked=True), accumulate=2)
    assert_same(weights(parts), weights(whole), atol=1e-5)


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.02), ("fp16", 0.005)])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_autocast_on_cpu_follows_float32(precision, tolerance, optimizer):
    """Losses after 40 steps agree to 2 % in bfloat16 (8 bits of mantissa) and 0.5 % in float16 (11 bits, scaled)."""
    losses = {}
    for name in ("fp32", precision):
        model = small_model()
        history = train(model, steps=40, eval_every=20, precision=name, optimizer=optimizer)
        losses[name] = torch.tensor([history.column("train_loss"), history.column("val_loss")])
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert float((losses[precision] / losses["fp32"] - 1).abs().max()) < tolerance


def test_float16_gradients_are_scaled_so_that_small_ones_survive():
    """With float16 and no scaling, gradients under 6e-8 vanish: the scaler's state must be alive in the checkpoint."""
    found = []

    class Watched(type(small_model())):
        def forward(self, tokens, **inputs):
            logits = super().forward(tokens, **inputs)
            if logits.requires_grad:
                logits.register_hook(lambda grad: found.append(float(grad.abs().max())))
            return logits

    torch.manual_seed(0)
    train(Watched(config(vocab_size=small_data().tokenizer.vocab_size)), precision="fp16", steps=2)
    assert min(found) > 10.0  # a mean over 102 targets would give less than 1 / 102


@pytest.mark.parametrize("where", ["head.weight", "decoder.blocks.0.attention.query.weight"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_float16_step_that_overflows_anywhere_moves_no_weight_at_all(optimizer, where):
    """The second step overflows in one matrix; Muon, with momentum from the first, must not move the others alone."""
    model, data, before = small_model(tie_embeddings=False), small_data(), {}

    class Overflowing:
        validation = data.validation

        def batch(self, step, size):
            if step == 1:
                before.update(weights(model))
                model.get_parameter(where).register_hook(lambda gradient: gradient * math.inf)
            return data.batch(step, size)

    train(model, Overflowing(), precision="fp16", optimizer=optimizer, steps=2)
    assert_same(weights(model), before, atol=0.0)


@pytest.mark.slow
def test_compiled_training_follows_the_uncompiled_one():
    """Fused kernels sum in another order: losses of 10 steps agree to 1e-4."""
    torch.compiler.reset()
    plain, compiled = small_model(n_layers=1), small_model(n_layers=1)
    losses = [
        train(model, steps=10, eval_every=5, compile=flag, eval_examples=12)
        for model, flag in ((plain, False), (compiled, True))
    ]
    for column in ("train_loss", "val_loss"):
        assert losses[1].column(column) == pytest.approx(losses[0].column(column), abs=1e-4)
    assert list(weights(compiled)) == list(weights(plain))  # no prefix of the compiler in the names
    torch.compiler.reset()


# ------------------------------------------------------------------------------------------------------ what comes out


def test_history_has_a_row_for_every_evaluation_with_every_column():
    rows = []
    history = fit(
        small_model(), small_data(), small_training(), device="cpu", progress=False, on_evaluation=rows.append
    )
    assert [list(row) for row in history.rows] == [COLUMNS] * 3
    assert rows == history.rows
    assert history.column("learning_rate") == pytest.approx(
        [3e-3 * (0.1 + 0.45 * (1 + math.cos(math.pi * (step - 3) / 10))) for step in (5, 10, 12)]
    )
    assert all(row["tokens_per_second"] > 0 for row in history.rows)
    assert history.column("seconds") == sorted(history.column("seconds"))
    assert history.best == min(history.column("val_loss"))


def test_the_same_seed_gives_the_same_weights_and_another_seed_other_dropout():
    def ends(seed):
        model = small_model(dropout=0.3)
        train(model, seed=seed)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(ends(1), ends(1))
    assert not torch.equal(ends(1), ends(2))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_trained_model_beats_the_letter_frequencies(optimizer):
    counts = Counter(small_text())
    shares = [n / len(small_text()) for n in counts.values()]
    unigram = -sum(p * math.log(p) for p in shares)
    history = train(small_model(), steps=150, eval_every=50, batch_size=12, lr=1e-2, optimizer=optimizer)
    assert history.column("val_loss")[-1] < 0.6 * unigram
    assert history.column("train_loss") == sorted(history.column("train_loss"), reverse=True)


class Translation:
    """Sequences to be reversed, for the encoder-decoder, with padding on both sides."""

    def batch(self, step, size):
        source = ids(11, size, 6, seed=step)
        real = padding([6] * (size - 1) + [4], 6)
        return Batch({"source": source, "target": source.flip(1), "source_real": real}, source.flip(1))

    def validation(self, size, limit=None):
        yield self.batch(10_000, size)


class Masked:
    """Sequences that repeat one token, some of them hidden by token 0, for the encoder."""

    def batch(self, step, size):
        tokens = (1 + ids(10, size, 1, seed=step)).expand(size, 9)
        hidden = torch.rand(size, 9, generator=torch.Generator().manual_seed(step)) < 0.4
        hidden[:, 0] = True
        return Batch({"tokens": tokens.masked_fill(hidden, 0)}, tokens.masked_fill(~hidden, IGNORE))

    def validation(self, size, limit=None):
        yield self.batch(10_000, size)


@pytest.mark.parametrize(("kind", "data"), [(Seq2Seq, Translation()), (BERT, Masked())])
def test_the_same_loop_trains_every_model(kind, data):
    torch.manual_seed(0)
    model = kind(config(vocab_size=11))
    history = train(model, data, steps=40, eval_every=20, batch_size=8, optimizer="muon", lr=1e-2)
    assert history.best < 0.7 * math.log(11)


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be positive; got 0"),
        ({"batch_size": -2}, "batch_size must be positive; got -2"),
        ({"lr": 0.0}, "lr must be positive; got 0.0"),
        ({"lr": math.nan}, "lr must be positive; got nan"),
        ({"clip": 0}, "clip must be positive; got 0"),
        ({"eval_every": 0}, "eval_every must be positive; got 0"),
        ({"eval_examples": 0}, "eval_examples must be positive.*got 0"),
        ({"accumulate": 4}, "accumulate=4 must divide batch_size=6"),
        ({"warmup": -1}, "warmup must be.*got -1"),
        ({"cooldown": 1.5}, "cooldown must be.*got 1.5"),
        ({"floor": -0.1}, "floor must be.*got -0.1"),
        ({"label_smoothing": 1.2}, "label_smoothing must be.*got 1.2"),
        ({"weight_decay": -1.0}, "weight_decay must be.*got -1.0"),
        ({"optimizer": "sgd"}, "optimizer='sgd' is not known; choose one of 'adamw', 'muon'"),
        ({"schedule": "linear"}, "schedule='linear' is not known; choose one of 'constant'"),
        ({"precision": "fp8"}, "precision='fp8' is not known; choose one of 'auto', 'fp32'"),
    ],
)
def test_impossible_training_settings_say_what_is_allowed(changes, message):
    with pytest.raises(ValueError, match=message):
        small_training(**changes)


def test_a_loss_that_is_no_number_stops_the_run():
    model = small_model()
    with torch.no_grad():
        model.decoder.norm.weight[0] = math.inf
    with pytest.raises(FloatingPointError, match=r"the training loss is nan at step 5; .*below lr=0.003"):
        train(model)


def test_data_that_give_the_wrong_number_of_examples_are_named():
    class TooFew(Masked):
        def batch(self, step, size):
            return super().batch(step, size - 1)

    with pytest.raises(ValueError, match="data.batch gave 5 examples; batch_size=6 were asked for"):
        train(BERT(config()), TooFew())


def test_a_batch_without_a_single_target_is_named():
    class Hidden(Masked):
        def batch(self, step, size):
            batch = super().batch(step, size)
            return replace(batch, targets=torch.full_like(batch.targets, IGNORE)) if step == 3 else batch

    with pytest.raises(ValueError, match="the batch of step 3 holds no target"):
        train(BERT(config()), Hidden())


def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(ValueError, match="device='tpu' is not known"):
        fit(small_model(), small_data(), small_training(), device="tpu")
