"""What a cache, a batch, 8 bits and guessing are worth for SmolLM2-135M on one core, each measured in the same run.

    python -m benchmarks.inference            # about a quarter of an hour on one core; writes the committed table
    python -m benchmarks.inference cache      # measures one part and keeps it for the table

Functions and classes that are measured are those of the chapter `practice/inference`, read from its notebook. All times
are processor time of one thread, medians of repeats that take turns. Where `transformers` or torch offers the same,
it is measured beside. The table is `fmcourse/results/inference.json`; the script prints it too.
"""

import copy
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.common import environment
from benchmarks.from_chapter import definitions
from benchmarks.sweep import Sweep, write_table
from fmcourse.cache import KVCache
from fmcourse.data.registry import package_folder
from fmcourse.data.text import shakespeare_works
from fmcourse.generation import generate, next_token_probabilities
from fmcourse.pretrained import load_smollm2
from fmcourse.transformer import GPT

WANTED = "quantise Int8Linear in_int8 draw verify Reader ModelDraft lookup_draft speculate"
FREE = (
    "Write a short story about a lighthouse keeper.",
    "Explain why the sky is blue.",
)
STARTS = ("Now, my co-mates", "All the world's a stage")
DRAFTS, GUESSES = ("int8", "lookup"), (1, 2, 3, 4, 6, 8)
GROUPS = {"matrix": None, "row": 0, "64": 64, "32": 32}


def medians(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median processor seconds of each run; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1 if repeats > 2 else repeats):
        for name, run in runs.items():
            started = time.process_time()
            run()
            if turn or repeats <= 2:  # the first of many warms up
                seconds[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


class Bench:
    """The model, the text, and the chapter's functions."""

    def __init__(self) -> None:
        chat = load_smollm2()
        self.model, self.tokenizer = chat.model, chat.tokenizer
        self.play = shakespeare_works()["as_you_like_it"]
        self.ids = self.tokenizer.encode(self.play[20_000:40_000]).ids
        given = {"torch": torch, "nn": nn, "F": F, "copy": copy, "math": math, "KVCache": KVCache}
        given |= {"config": self.model.config, "next_token_probabilities": next_token_probabilities}
        self.chapter = SimpleNamespace(**definitions("practice/inference", WANTED, given))
        self.small: GPT = self.chapter.in_int8(self.model)
        self._peer: Any = None

    @property
    def peer(self) -> Any:
        """The same weights in `transformers`."""
        if self._peer is None:
            from transformers import AutoModelForCausalLM

            folder = package_folder("smollm2")
            file = "SmolLM2-135M-Instruct.Q4_1.gguf"
            self._peer = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
            self._peer.generation_config.eos_token_id = None
        return self._peer

    def as_chat(self, question: str) -> list[int]:
        """Tokens of a question, in the form that the model was trained on."""
        return self.tokenizer.encode(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n").ids

    def tasks(self) -> Iterator[tuple[str, list[int]]]:
        """Kind and prompt of each text that is written."""
        for question in FREE:
            yield "free", self.as_chat(question)
        for start in STARTS:
            passage = self.play[self.play.index(start) :][:330].replace("\n", " ")
            yield "copy", self.as_chat(f"Correct the spelling and punctuation of this text: {passage}")

    def stepper(self, model: Any, batch: int, read: int, tokens: int = 1) -> Callable[[], object]:
        """A call that reads `tokens` more in each text of a batch that already holds `read`; it never runs out."""
        rows = torch.tensor(self.ids[: read + tokens]).repeat(batch, 1)
        memory = KVCache(self.model.config.n_layers, read + tokens)
        model(rows[:, :read], cache=memory)

        def step() -> None:
            memory.truncate(read)
            model(rows[:, read:], cache=memory)

        return step


def peer_writes(bench: Bench, prompts: list[list[int]], new: int, **options: Any) -> list[list[int]]:
    """Greedy texts by `transformers`, all of full length."""
    tokens = torch.tensor(prompts)
    out = bench.peer.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=new,
        do_sample=False,
        pad_token_id=0,
        **options,
    )
    return out[:, tokens.shape[1] :].tolist()


def cache_at(bench: Bench, n: int) -> dict[str, float]:
    """Milliseconds for one more token in a text of n, with and without a cache."""
    text = torch.tensor([bench.ids[:n]])
    step = bench.stepper(bench.model, 1, n - 1)
    found = medians({"without": lambda: bench.model(text), "with": step}, 3)
    return {"length": n, **{f"{name}_ms": round(1000 * t, 2) for name, t in found.items()}}


def written_beside_peer(bench: Bench, prompts: list[list[int]], new: int) -> dict[str, Any]:
    """Tokens per second of ours and of `transformers`, and whether both write the same."""

    def ours() -> list[list[int]]:
        return generate(bench.model, prompts, max_new_tokens=new, temperature=0)

    same = ours() == peer_writes(bench, prompts, new)
    found = medians({"ours": ours, "transformers": lambda: peer_writes(bench, prompts, new)}, 3)
    speeds = {name: round(len(prompts) * new / t, 2) for name, t in found.items()}
    return {"batch": len(prompts), "tokens": new, "same_text": same, **speeds}


def cache_table(bench: Bench, sweep: Sweep) -> dict[str, Any]:
    """Time for one more token by length; writing beside `transformers`."""
    lengths = (16, 32, 64, 128, 256, 512, 1024)
    rows = [sweep(f"cache {n}", partial(cache_at, bench, n)) for n in lengths]
    prompt = bench.as_chat(FREE[0])
    return {"lengths": rows, "generate": sweep("generate 1", lambda: written_beside_peer(bench, [prompt], 32))}


def batch_of(bench: Bench, batch: int) -> dict[str, float]:
    """Milliseconds of a step of that batch, in float32 and in 8 bits."""
    runs = {"float32": bench.stepper(bench.model, batch, 16), "int8": bench.stepper(bench.small, batch, 16)}
    return {"batch": batch, **{f"{name}_ms": round(1000 * t, 2) for name, t in medians(runs, 5).items()}}


def batch_table(bench: Bench, sweep: Sweep) -> dict[str, Any]:
    """Milliseconds of a step by batch; a batch of 16 written beside `transformers`."""
    rows = [sweep(f"batch {b}", partial(batch_of, bench, b)) for b in (1, 2, 4, 8, 16, 32, 64)]
    prompts = [bench.ids[16 * i : 16 * i + 16] for i in range(16)]
    return {"steps": rows, "generate": sweep("generate 16", lambda: written_beside_peer(bench, prompts, 12))}


def windows(bench: Bench) -> Tensor:
    """The 1,024 tokens that losses are measured on."""
    return torch.tensor(bench.ids[:1024]).view(4, 256)


def loss(model: Any, text: Tensor) -> float:
    """Mean loss in nats per token, window by window."""
    parts = [F.cross_entropy(model(row[None])[0, :-1].float(), row[1:]).item() for row in text]
    return round(statistics.mean(parts), 4)


def rounded(w: Tensor, bits: int, group: int | None) -> Tensor:
    """Weights rounded to that many bits: one step for all (None), for each row (0), or for a group of so many."""
    top = 2 ** (bits - 1) - 1
    parts = w.reshape(1, -1) if group is None else w if group == 0 else w.reshape(-1, group)
    step = parts.abs().amax(dim=1, keepdim=True) / top
    return ((parts / step).round() * step).reshape(w.shape)


@contextmanager
def weights_of(model: GPT, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The model with every matrix changed, for a while. (Its table of token vectors is its output matrix too.)"""
    matrices = [p for p in model.parameters() if p.dim() == 2]
    kept = [p.data for p in matrices]
    for p in matrices:
        p.data = change(p.data)
    yield
    for p, old in zip(matrices, kept, strict=True):
        p.data = old


@contextmanager
def inputs_of(model: GPT, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The model with the input of every linear layer changed, for a while."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_pre_hook(lambda _, inputs: (change(inputs[0]),)) for layer in layers]
    yield
    for hook in hooks:
        hook.remove()


def weights_loss(bench: Bench, bits: int, group: str) -> float:
    """Loss with weights rounded to `bits`, inputs in float."""
    with weights_of(bench.model, lambda w: rounded(w, bits, GROUPS[group])):
        return loss(bench.model, windows(bench))


def inputs_losses(bench: Bench) -> dict[str, Any]:
    """Loss with weights in 8 bits by rows, and inputs in 8 bits in three ways."""
    kept: list[tuple[int, int]] = []

    def decomposed(x: Tensor) -> Tensor:
        """One step for all tokens, but features that exceed 6 anywhere stay in float (Dettmers et al. 2022)."""
        large = x.abs().flatten(0, -2).amax(dim=0) >= 6
        kept.append((int(large.sum()), large.numel()))
        rest = x.masked_fill(large, 0.0)
        return torch.where(large, x, rounded(rest, 8, None))

    ways = (
        ("float", "in float", lambda x: x),
        ("tensor", "in 8 bits, one step for all tokens", lambda x: rounded(x, 8, None)),
        ("kept", "the same, but large features in float", decomposed),
        ("token", "in 8 bits, one step for each token", lambda x: rounded(x.flatten(0, -2), 8, 0).view_as(x)),
    )
    rows = []
    with weights_of(bench.model, lambda w: rounded(w, 8, 0)):
        for key, name, change in ways:
            with inputs_of(bench.model, change):
                rows.append({"key": key, "name": name, "loss": loss(bench.model, windows(bench))})
    return {"inputs": rows, "kept_share": round(sum(k for k, _ in kept) / sum(n for _, n in kept), 5)}


def quantised_speed(bench: Bench) -> list[dict[str, Any]]:
    """Milliseconds of a step with 1 and with 16 texts, and bytes of the matrices, by number format."""
    models: dict[str, Any] = {
        "float32": bench.model,
        "bfloat16": copy.deepcopy(bench.model).bfloat16(),
        "int8, the chapter's layer": bench.small,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that its own is going to be removed
        dynamic = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            bench.model, {nn.Linear}, dtype=torch.qint8
        )
    models["int8, torch's quantize_dynamic"] = dynamic
    found = {
        batch: medians({name: bench.stepper(model, batch, 16) for name, model in models.items()}, 9)
        for batch in (1, 16)
    }
    rows = []
    for name, model in models.items():
        milliseconds = [round(1000 * found[batch][name], 2) for batch in (1, 16)]
        rows.append({"name": name, "ms": milliseconds, "loss": loss(model, windows(bench))})
    return rows


def quantisation_table(bench: Bench, sweep: Sweep) -> dict[str, Any]:
    """Loss by bits and groups; inputs; speed."""
    table: dict[str, Any] = {"float32": {"loss": sweep("float32", lambda: loss(bench.model, windows(bench)))}}
    table["weights"] = [
        {
            "bits": bits,
            "group": group,
            "loss": sweep(f"{bits} {group}", partial(weights_loss, bench, bits, group)),
        }
        for group in GROUPS
        for bits in (8, 6, 5, 4, 3)
    ]
    table |= sweep("inputs", lambda: inputs_losses(bench))
    table["speed"] = sweep("speed", lambda: quantised_speed(bench))
    return table


def speculate_all(bench: Bench, prompt: list[int], new: int) -> dict[str, Any]:
    """One text, written plainly and with every draft and number of guesses, in turn."""
    texts: dict[str, Any] = {}

    def plain() -> None:
        texts["plain"] = generate(bench.model, [prompt], max_new_tokens=new, temperature=0)[0]

    def guessing(draft: str, guesses: int) -> None:
        guesser = bench.chapter.ModelDraft(bench.small) if draft == "int8" else bench.chapter.lookup_draft
        texts[f"{draft} {guesses}"] = bench.chapter.speculate(bench.model, guesser, prompt, new, guesses)

    runs: dict[str, Callable[[], object]] = {"plain": plain}
    runs |= {f"{d} {g}": partial(guessing, d, g) for d in DRAFTS for g in GUESSES}
    found = medians(runs, 1)
    one, answers = texts.pop("plain"), {}
    for name, (other, rounds) in texts.items():
        tie = False
        if one != other:
            place = next(i for i, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])
            top = bench.model(torch.tensor([prompt + one[:place]]))[0, -1].topk(2).values
            tie = (top[0] - top[1]).item() < 2e-3
        answers[name] = {"seconds": found[name], "rounds": rounds, "same": one == other, "tie": tie}
    return {"plain": found["plain"], "answers": answers}


def costs(bench: Bench) -> dict[str, float]:
    """Seconds to read 1 to 9 tokens with the model, and 1 with the draft."""
    runs = {str(n): bench.stepper(bench.model, 1, 96, n) for n in range(1, 10)}
    return medians({**runs, "draft": bench.stepper(bench.small, 1, 96)}, 9)


def speculation_row(
    draft: str, kind: str, guesses: int, texts: list[dict[str, Any]], cost: dict[str, float]
) -> dict[str, Any]:
    """Speed-up over all texts of a kind, measured and by the formula."""
    runs = [text["answers"][f"{draft} {guesses}"] for text in texts]
    rounds = [tuple(r) for run in runs for r in run["rounds"]]
    kept, refused = sum(k for _, k in rounds), sum(k < g for g, k in rounds)
    alpha, share = kept / max(1, kept + refused), sum(g > 0 for g, _ in rounds) / len(rounds)
    tokens = 1 + share * sum(alpha**i for i in range(1, guesses + 1))
    drafting = guesses * cost["draft"] / cost["1"] if draft == "int8" else 0.0
    spent = drafting + share * cost[str(guesses + 1)] / cost["1"] + (1 - share)
    measured = sum(text["plain"] for text in texts) / sum(run["seconds"] for run in runs)
    row = {"draft": draft, "kind": kind, "guesses": guesses, "alpha": round(alpha, 4), "guessed": round(share, 4)}
    return {**row, "predicted": round(tokens / spent, 3), "measured": round(measured, 3)}


def speculation_table(bench: Bench, sweep: Sweep, new: int = 48) -> dict[str, Any]:
    """Speed-ups by draft, kind of task and number of guesses; the formula's ingredients, each measured by itself."""
    cost = sweep("costs", lambda: costs(bench))
    texts: dict[str, list[dict[str, Any]]] = {"free": [], "copy": []}
    for i, (kind, prompt) in enumerate(bench.tasks()):
        texts[kind].append(sweep(f"text {i} {new}", partial(speculate_all, bench, prompt, new)))
    rows = [speculation_row(d, k, g, texts[k], cost) for d in DRAFTS for k in texts for g in GUESSES]
    answers = [answer for kind in texts.values() for text in kind for answer in text["answers"].values()]
    table = {"new": new, "draft_cost": round(cost["draft"] / cost["1"], 3), "rows": rows}
    table["check_cost"] = [{"tokens": n, "cost": round(cost[str(n)] / cost["1"], 3)} for n in range(1, 10)]
    table |= {
        "texts": len(answers),
        "same_text": sum(a["same"] for a in answers),
        "ties": sum(a["tie"] for a in answers),
    }
    return {**table, "peer": sweep("peer", lambda: lookup_peer(bench, new))}


def lookup_peer(bench: Bench, new: int) -> dict[str, float]:
    """Speed-up of `transformers`' prompt lookup over its own plain writing, on the copies, with 5 guesses."""
    prompts = [prompt for kind, prompt in bench.tasks() if kind == "copy"]
    options = {"prompt_lookup_num_tokens": 5}
    peer_writes(bench, prompts[:1], 4)  # loads the model
    runs = {
        "plain": lambda: [peer_writes(bench, [prompt], new) for prompt in prompts],
        "lookup": lambda: [peer_writes(bench, [prompt], new, **options) for prompt in prompts],
    }
    found = medians(runs, 2)
    return {"transformers_lookup_5": round(found["plain"] / found["lookup"], 3)}


def show(table: Any, name: str = "", depth: int = 0) -> None:
    """Print nested tables: a line for each row."""
    if isinstance(table, list) and table and isinstance(table[0], dict):
        print(f"\n{name}\n| " + " | ".join(table[0]) + " |\n|" + "---|" * len(table[0]))
        for row in table:
            print("| " + " | ".join(map(str, row.values())) + " |")
    elif isinstance(table, dict):
        for key, value in table.items():
            show(value, f"{name} {key}".strip(), depth + 1)
    else:
        print(f"{name}: {table}")


@torch.inference_mode()
def main() -> None:
    """Measure what is not yet measured, write the table and print it."""
    torch.set_num_threads(1)
    bench = Bench()
    parts = {"cache": cache_table, "batching": batch_table, "quantisation": quantisation_table}
    parts |= {"speculation": speculation_table}
    chosen = sys.argv[1:] or list(parts)
    found = {name: parts[name](bench, Sweep(f"inference_{name}")) for name in chosen}
    if len(chosen) < len(parts):
        return
    about = {"command": "python -m benchmarks.inference", "environment": environment("transformers")}
    about["setting"] = "SmolLM2-135M-Instruct, processor time of one thread, medians of repeats that take turns"
    write_table("inference", {**about, **found})
    show(found)


if __name__ == "__main__":
    main()
