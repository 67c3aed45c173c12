"""How fast does an encoder-decoder train and write beside `transformers`' Marian of the same size?

The shape is that of the translators that the book ships, with as many parameters on both sides (within five per cent).
A training step is a forward and a backward pass, clipping and AdamW, on the same batch. Both write sixty-four outputs
at once, greedily and with a beam of four, with a cache, and neither may end early.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from transformers import MarianConfig, MarianMTModel

from benchmarks.common import Row, medians
from benchmarks.translation_checkpoint import model_config
from fmcourse.beam_search import beam_search
from fmcourse.data.batch import Batch
from fmcourse.device import Precision, autocast, pick_precision
from fmcourse.optim import make_optimizers
from fmcourse.training import summed_loss
from fmcourse.transformer import Seq2Seq, count_parameters

VOCAB, BATCH, LENGTH, NEW = 5002, 64, 24, 32
START, END = VOCAB - 2, VOCAB - 1
CPU = torch.device("cpu")


def our_model() -> Seq2Seq:
    """The shipped translators' shape, with fresh weights that never want to end."""
    torch.manual_seed(0)
    model = Seq2Seq(replace(model_config(VOCAB), dropout=0.0, init="normal"))
    with torch.no_grad():
        model.head.weight[END] = 0
    return model


def peer_model() -> MarianMTModel:
    """Marian of the same width, depth, heads and vocabulary."""
    ours = model_config(VOCAB)
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", ours.n_layers), ("attention_heads", ours.n_heads), ("ffn_dim", ours.d_hidden))
    }
    torch.manual_seed(0)
    return MarianMTModel(
        MarianConfig(
            vocab_size=VOCAB,
            d_model=ours.d_model,
            max_position_embeddings=ours.context,
            activation_function="relu",
            dropout=0.0,
            scale_embedding=True,
            pad_token_id=START,
            decoder_start_token_id=START,
            eos_token_id=END,
            forced_eos_token_id=None,
            **sides,
        )
    )


def our_step(ids: torch.Tensor, precision: Precision) -> Callable[[], None]:
    """One step as `fmcourse.training.fit` does it."""
    model = our_model()
    (optimizer,) = make_optimizers(model, name="adamw", lr=1e-3)
    real = torch.ones_like(ids, dtype=torch.bool)
    batch = Batch({"source": ids, "target": ids, "source_real": real}, ids)

    def step() -> None:
        with autocast(CPU, precision):
            loss = summed_loss(model, batch) / ids.numel()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def peer_step(ids: torch.Tensor, precision: Precision) -> Callable[[], None]:
    """One step of Marian, with torch's AdamW."""
    model = peer_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    real = torch.ones_like(ids)

    def step() -> None:
        with autocast(CPU, precision):
            loss = model(input_ids=ids, attention_mask=real, decoder_input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def writers(ids: torch.Tensor, beam_size: int) -> dict[str, Callable[[], None]]:
    """Both write NEW tokens for every source."""
    ours, peer = our_model().eval(), peer_model().eval()
    sources, real = ids.tolist(), torch.ones_like(ids)

    def write_ours() -> None:
        alpha = 0.6 if beam_size > 1 else 0.0
        options = {"start": START, "end": END, "max_new_tokens": NEW, "beam_size": beam_size, "alpha": alpha}
        found = beam_search(ours, sources, **options)
        assert all(len(best[0].tokens) == NEW for best in found)

    def write_peer() -> None:
        options = {"min_new_tokens": NEW, "max_new_tokens": NEW, "num_beams": beam_size, "do_sample": False}
        found = peer.generate(input_ids=ids, attention_mask=real, **options)
        assert found.shape == (BATCH, NEW + 1)

    return {"ours": write_ours, "peer": write_peer}


def row(question: str, ours: float, peer: float) -> Row:
    """Speeds in target tokens per second."""
    return Row(question, f"{ours:,.0f} tokens/s", f"{peer:,.0f} tokens/s", ours / peer, "")


def measure(repeats: int = 15) -> list[Row]:
    """Compare training and decoding."""
    sizes = count_parameters(our_model()), sum(p.numel() for p in peer_model().parameters() if p.requires_grad)
    if not 0.95 < sizes[0] / sizes[1] < 1.05:
        raise RuntimeError(f"{sizes[0]:,} and {sizes[1]:,} parameters are not the same size")
    ids = torch.randint(START, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))
    chosen = pick_precision(CPU)
    seconds = medians(
        {
            "ours as used": our_step(ids, "auto"),
            "peer as used": peer_step(ids, "fp32"),
            "ours fp32": our_step(ids, "fp32"),
            "ours bf16": our_step(ids, "bf16"),
            "peer bf16": peer_step(ids, "bf16"),
        },
        repeats=repeats,
    )
    speed = {name: BATCH * LENGTH / value for name, value in seconds.items()}
    name = f"translation, 3 + 3 x 192, beside `transformers` Marian ({sizes[0] / 1e6:.1f} and {sizes[1] / 1e6:.1f} M)"
    rows = [
        row(f"{name}: training step as used ({chosen} beside fp32)", speed["ours as used"], speed["peer as used"]),
        row("the same, both fp32", speed["ours fp32"], speed["peer as used"]),
        row("the same, both bf16 autocast", speed["ours bf16"], speed["peer bf16"]),
    ]
    for beam_size, how in ((1, "greedy decoding"), (4, "a beam of four")):
        taken = medians(writers(ids, beam_size), repeats=max(3, repeats // 3), warmup=1)
        ours, peer = (BATCH * NEW / taken[side] for side in ("ours", "peer"))
        rows.append(row(f"translation, {BATCH} outputs of {NEW} tokens at once, {how}", ours, peer))
    return rows
