"""How fast is a training step beside `transformers`' GPT-2 of the same size?

Forward pass, backward pass, clipping and AdamW step, the same batch. "As used": our trainer picks bfloat16 autocast
where the processor has it; `transformers` runs in float32, its default. The table also shows both in float32 and both
in bfloat16, to tell apart what is due to the number format and what to the code.
"""

from collections.abc import Callable

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.common import Row, medians
from fmcourse.data.batch import Batch
from fmcourse.device import Precision, autocast, pick_precision
from fmcourse.optim import make_optimizers
from fmcourse.training import summed_loss
from fmcourse.transformer import GPT, TransformerConfig

SIZES = (
    {"d_model": 128, "n_layers": 4, "n_heads": 4, "context": 64, "batch": 12},
    {"d_model": 384, "n_layers": 6, "n_heads": 6, "context": 256, "batch": 8},
)
VOCABULARY = 65


def our_step(size: dict[str, int], precision: Precision) -> Callable[[], None]:
    """One step as `fmcourse.training.fit` does it."""
    config = TransformerConfig(
        vocab_size=VOCABULARY,
        context=size["context"],
        d_model=size["d_model"],
        n_layers=size["n_layers"],
        n_heads=size["n_heads"],
    )
    model = GPT(config)
    (optimizer,) = make_optimizers(model, name="adamw", lr=1e-3)
    tokens = torch.randint(VOCABULARY, (size["batch"], size["context"] + 1))
    batch = Batch({"tokens": tokens[:, :-1]}, tokens[:, 1:])

    def step() -> None:
        with autocast(torch.device("cpu"), precision):
            loss = summed_loss(model, batch) / batch.targets.numel()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def peer_step(size: dict[str, int], precision: Precision) -> Callable[[], None]:
    """One step of `transformers`' GPT-2 without dropout, with torch's AdamW."""
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=size["context"],
        n_embd=size["d_model"],
        n_layer=size["n_layers"],
        n_head=size["n_heads"],
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(VOCABULARY, (size["batch"], size["context"]))

    def step() -> None:
        with autocast(torch.device("cpu"), precision):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure(repeats: int = 40) -> list[Row]:
    """Compare at both sizes."""
    rows = []
    for size in SIZES:
        chosen = pick_precision(torch.device("cpu"))
        seconds = medians(
            {
                "ours as used": our_step(size, "auto"),
                "peer as used": peer_step(size, "fp32"),
                "ours fp32": our_step(size, "fp32"),
                "ours bf16": our_step(size, "bf16"),
                "peer bf16": peer_step(size, "bf16"),
            },
            repeats=repeats,
        )
        speed = {name: size["batch"] * size["context"] / value for name, value in seconds.items()}
        name = f"{size['n_layers']} x {size['d_model']}, context {size['context']}, batch {size['batch']}"
        pairs = (
            (f"training step, {name}: as used ({chosen} beside fp32)", "ours as used", "peer as used", ">= 1.5"),
            (f"training step, {name}: both fp32", "ours fp32", "peer as used", ""),
            (f"training step, {name}: both bf16 autocast", "ours bf16", "peer bf16", ""),
        )
        for question, ours, peer, target in pairs:
            rows.append(
                Row(
                    question,
                    f"{speed[ours]:,.0f} tokens/s",
                    f"{speed[peer]:,.0f} tokens/s",
                    speed[ours] / speed[peer],
                    target,
                )
            )
    return rows
