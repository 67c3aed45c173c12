"""What a cache, a batch, 8 bits and guessing are worth for SmolLM2-135M on one core, each measured in the same run.

    python -m benchmarks.inference            # about half an hour on one core; writes the committed table

Functions and classes that are measured are those of the chapter `practice/inference`, read from its notebook. All times
are processor time of one thread, medians of repeats that take turns. Where `transformers` or torch offers the same,
it is measured beside. The table is `fmcourse/results/inference.json`; the script prints it too.
"""

import copy
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
    "What should I do on a rainy Sunday?",
)
STARTS = ("Now, my co-mates", "All the world's a stage", "A fool, a fool!")
GROUPS = {"matrix": None, "row": 0, "64": 64, "32": 32}


def medians(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median processor seconds of each run; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            started = time.process_time()
            run()
            if turn:  # the first warms up
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
            yield "copy", self.as_chat(f"Repeat this text word for word: {passage}")

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


def cache_table(bench: Bench) -> dict[str, Any]:
    """Time for one more token by length, with and without a cache; writing beside `transformers`."""
    rows = []
    for n in (16, 32, 64, 128, 256, 512, 1024):
        text = torch.tensor([bench.ids[:n]])
        step = bench.stepper(bench.model, 1, n - 1)
        found = medians({"without": lambda text=text: bench.model(text), "with": step}, 5)
        rows.append({"length": n, **{f"{name}_ms": round(1000 * t, 2) for name, t in found.items()}})
    prompt, new = bench.as_chat(FREE[0]), 64

    def ours() -> list[list[int]]:
        return generate(bench.model, [prompt], max_new_tokens=new, temperature=0)

    same = ours() == peer_writes(bench, [prompt], new)
    found = medians({"ours": ours, "transformers": lambda: peer_writes(bench, [prompt], new)}, 3)
    speeds = {name: round(new / t, 2) for name, t in found.items()}
    return {"lengths": rows, "generate": {"tokens": new, "same_text": same, **speeds}}


def batch_table(bench: Bench) -> dict[str, Any]:
    """Milliseconds of a step by batch, in float32 and in 8 bits; a batch of 16 written beside `transformers`."""
    rows = []
    for batch in (1, 2, 4, 8, 16, 32, 64, 128):
        runs = {"float32": bench.stepper(bench.model, batch, 16), "int8": bench.stepper(bench.small, batch, 16)}
        found = medians(runs, 7)
        rows.append({"batch": batch, **{name: round(1000 * t, 2) for name, t in found.items()}})
    prompts, new = [bench.ids[16 * i : 16 * i + 16] for i in range(16)], 16
    runs = {
        "ours": lambda: generate(bench.model, prompts, max_new_tokens=new, temperature=0),
        "transformers": lambda: peer_writes(bench, prompts, new),
    }
    speeds = {name: round(16 * new / t, 2) for name, t in medians(runs, 3).items()}
    return {"steps": rows, "generate": {"batch": 16, "tokens": new, **speeds}}


def windows(bench: Bench) -> Tensor:
    """The 2,048 tokens that losses are measured on."""
    return torch.tensor(bench.ids[:2048]).view(8, 256)


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
        dynamic = torch.ao.quantization.quantize_dynamic(bench.model, {nn.Linear}, dtype=torch.qint8)
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
            "loss": sweep(f"{bits} {group}", lambda b=bits, g=group: weights_loss(bench, b, g)),
        }
        for group in GROUPS
        for bits in (8, 6, 5, 4, 3)
    ]
    table |= sweep("inputs", lambda: inputs_losses(bench))
    table["speed"] = sweep("speed", lambda: quantised_speed(bench))
    return table


def speculate_once(bench: Bench, draft: str, prompt: list[int], guesses: int, new: int) -> dict[str, Any]:
    """One text, plain and speculative in turn."""

    def guesser() -> Any:
        return bench.chapter.ModelDraft(bench.small) if draft == "int8" else bench.chapter.lookup_draft

    texts: dict[str, Any] = {}

    def plain() -> None:
        texts["plain"] = generate(bench.model, [prompt], max_new_tokens=new, temperature=0)[0]

    def guessing() -> None:
        texts["new"], texts["rounds"] = bench.chapter.speculate(bench.model, guesser(), prompt, new, guesses)

    found = medians({"plain": plain, "guessing": guessing}, 2)
    one, other = texts["plain"], texts["new"]
    tie = False
    if one != other:
        place = next(i for i, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])
        top = bench.model(torch.tensor([prompt + one[:place]]))[0, -1].topk(2).values
        tie = (top[0] - top[1]).item() < 2e-3
    return {**found, "rounds": texts["rounds"], "same": one == other, "tie": tie}


def speculation_table(bench: Bench, sweep: Sweep, new: int = 64) -> dict[str, Any]:
    """Speed-ups by draft, kind of task and number of guesses; the formula's ingredients, each measured by itself."""

    def costs() -> dict[str, Any]:
        runs = {str(n): bench.stepper(bench.model, 1, 96, n) for n in range(1, 10)}
        runs["draft"] = bench.stepper(bench.small, 1, 96)
        return medians(runs, 15)

    cost = sweep("costs", costs)
    check = {n: cost[str(n)] / cost["1"] for n in range(1, 10)}
    rows, same, ties, texts = [], 0, 0, 0
    for draft in ("int8", "lookup"):
        for kind in ("free", "copy"):
            prompts = [prompt for k, prompt in bench.tasks() if k == kind]
            for guesses in (1, 2, 3, 4, 5, 6, 8):
                runs = [
                    sweep(
                        f"{draft} {kind} {i} {guesses} {new}",
                        lambda p=p, d=draft, g=guesses: speculate_once(bench, d, p, g, new),
                    )
                    for i, p in enumerate(prompts)
                ]
                rounds = [tuple(r) for run in runs for r in run["rounds"]]
                kept = sum(k for _, k in rounds)
                refused = sum(k < g for g, k in rounds)
                alpha, share = kept / max(1, kept + refused), sum(g > 0 for g, _ in rounds) / len(rounds)
                tokens = 1 + share * sum(alpha**i for i in range(1, guesses + 1))
                drafting = guesses * cost["draft"] / cost["1"] if draft == "int8" else 0.0
                spent = drafting + share * check[guesses + 1] + (1 - share)
                measured = sum(run["plain"] for run in runs) / sum(run["guessing"] for run in runs)
                row = {"draft": draft, "kind": kind, "guesses": guesses, "alpha": round(alpha, 4)}
                row |= {"guessed": round(share, 4), "tokens_per_round": round(len(runs) * new / len(rounds), 3)}
                rows.append({**row, "predicted": round(tokens / spent, 3), "measured": round(measured, 3)})
                same += sum(run["same"] for run in runs)
                ties += sum(run["tie"] for run in runs)
                texts += len(runs)
    table = {"new": new, "draft_cost": round(cost["draft"] / cost["1"], 3), "rows": rows}
    table["check_cost"] = [{"tokens": n, "cost": round(c, 3)} for n, c in check.items()]
    return {
        **table,
        "texts": texts,
        "same_text": same,
        "ties": ties,
        "peer": sweep("peer", lambda: lookup_peer(bench, new)),
    }


def lookup_peer(bench: Bench, new: int) -> dict[str, float]:
    """Speed-up of `transformers`' prompt lookup over its own plain writing, on the copies, with 5 guesses."""
    prompts = [prompt for kind, prompt in bench.tasks() if kind == "copy"]
    options = {"prompt_lookup_num_tokens": 5}
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
    sweep, bench = Sweep("inference"), Bench()
    table: dict[str, Any] = {"command": "python -m benchmarks.inference"}
    table["environment"] = environment("transformers")
    table["setting"] = "SmolLM2-135M-Instruct in float32, processor time of one thread, medians of interleaved repeats"
    table["cache"] = sweep("cache", lambda: cache_table(bench))
    table["batching"] = sweep("batching", lambda: batch_table(bench))
    table["quantisation"] = quantisation_table(bench, sweep)
    table["speculation"] = speculation_table(bench, sweep)
    write_table("inference", table)
    show(table)


if __name__ == "__main__":
    main()
