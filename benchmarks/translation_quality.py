"""How good is the translator that the book ships, and how does it depend on the search?

    python -m benchmarks.translation_quality      # about twenty minutes on one core; goes on where it stopped

Every test pair of LibreOffice's help that is short enough, translated greedily and with a beam of four, beside two
baselines; a sample of them with growing beams, with and without a length penalty; and exact search on the short ones of
the sample, which says how often beam search misses what the model likes best, and how often that is to say nothing.
Shown in `mathematics/translation_worked_example`; the table is `fmcourse/results/translation_quality.json`.
"""

import hashlib
import heapq
import math
import random
import re

import torch
from sacrebleu.metrics import BLEU, CHRF

from benchmarks.common import environment
from benchmarks.sweep import Sweep, write_table
from fmcourse.data.translation import Pairs, TranslationData, help_pages, pad_right
from fmcourse.training import evaluate
from fmcourse.translator import FOLDER, Translator, load_translation
from fmcourse.word_alignment import learn_table

ALL = ((1, 0.0), (4, 0.6))  # beam size and alpha, on every pair
BEAMS = {0.0: (1, 2, 4, 8, 16, 32), 0.6: (2, 4, 8, 16)}  # on a sample
SAMPLE, EXACT_TOKENS, EXACT_LIMIT = 200, 24, 20_000


def scores(outputs: list[str], references: list[str]) -> dict[str, float]:
    """BLEU and chrF by sacreBLEU, and how many outputs are the reference to the letter."""
    return {
        "bleu": round(BLEU().corpus_score(outputs, [references]).score, 2),
        "chrf": round(CHRF().corpus_score(outputs, [references]).score, 2),
        "exact": round(sum(a == b for a, b in zip(outputs, references, strict=True)) / len(outputs), 4),
        "characters": round(sum(map(len, outputs)) / sum(map(len, references)), 4),
    }


def signatures(outputs: list[str], references: list[str]) -> dict[str, str]:
    """What sacreBLEU says about how it counted."""
    metrics = {"bleu": BLEU(), "chrf": CHRF()}
    for metric in metrics.values():
        metric.corpus_score(outputs, [references])
    return {name: str(metric.get_signature()) for name, metric in metrics.items()}


def dictionary(train: list[tuple[str, str]], sentences: list[str]) -> list[str]:
    """Each word replaced by its most probable translation of IBM model 1; unknown words are copied."""
    ids: dict[str, int] = {}

    def words(text: str) -> list[str]:
        return re.findall(r"\w+|[^\w\s]", text)

    def numbers(text: str) -> list[int]:
        return [ids.setdefault(word, len(ids)) for word in words(text)]

    best = learn_table([(numbers(a), numbers(b)) for a, b in train]).best()
    names = list(ids)
    out = []
    for sentence in sentences:
        # Spaces stay where they were: only words change.
        out.append(re.sub(r"\w+", lambda m: names[best[ids[m[0]]]] if ids.get(m[0]) in best else m[0], sentence))
    return out


def fitting(translator: Translator, part: Pairs) -> list[tuple[str, str]]:
    """The pairs that are as short as those the model was trained on."""
    return [
        (a, b)
        for a, b in zip(part.source, part.target, strict=True)
        if max(len(translator.tokenizer.encode(a)) + 1, len(translator.tokenizer.encode(b))) < translator.longest
    ]


def by_beam(translator: Translator, sentences: list[str], references: list[str], size: int, alpha: float) -> dict:
    """One row of the table, and what it says of each sentence: log-probability and tokens."""
    found = [best[0] for best in translator.search(sentences, beam_size=size, alpha=alpha)]
    outputs = [translator.decode(best.tokens) for best in found]
    return {
        "beam_size": size,
        "alpha": alpha,
        **scores(outputs, references),
        "empty": sum(not best.tokens for best in found),
        "log_probability": [round(best.log_probability, 4) for best in found],
        "outputs": outputs,
    }


def strip(row: dict) -> dict:
    """What of a row goes into the table."""
    values = row["log_probability"]
    kept = {name: value for name, value in row.items() if not isinstance(value, list)}
    return {**kept, "mean_log_probability": round(sum(values) / len(values), 4)}


def lead(one: list[str], other: list[str], references: list[str], draws: int = 300) -> dict[str, float]:
    """How much higher the BLEU of `one` is, with the middle 95 % of what other draws of the sentences would give."""
    draw, found = random.Random(0), []
    for _ in range(draws):
        some = draw.choices(range(len(references)), k=len(references))
        scores = [
            BLEU().corpus_score([texts[i] for i in some], [[references[i] for i in some]]).score
            for texts in (one, other)
        ]
        found.append(scores[0] - scores[1])
    found.sort()
    scores = [BLEU().corpus_score(texts, [references]).score for texts in (one, other)]
    edges = {"low": found[round(0.025 * draws)], "high": found[round(0.975 * draws) - 1]}
    return {name: round(value, 2) for name, value in {"bleu": scores[0] - scores[1], **edges}.items()}


@torch.inference_mode()
def exact(translator: Translator, sentence: str, known: float) -> dict:
    """The output that the model likes best of all there are: partial outputs in the order of their probability.

    Probabilities only fall, so the first finished output that comes up is the best. `known` is the log-probability of
    some output, below which nothing need be kept. Gives up after EXACT_LIMIT partial outputs.
    """
    model, start, end = translator.model, translator.start, translator.end
    memory = model.encode(torch.tensor([translator.encode(sentence)]))
    waiting: list[tuple[float, list[int]]] = [(0.0, [])]
    seen, best = 0, (-math.inf, [])
    while waiting and seen < EXACT_LIMIT and -waiting[0][0] > best[0]:
        some = [heapq.heappop(waiting) for _ in range(min(64, len(waiting)))]
        ids, real = pad_right([[start, *tokens] for _, tokens in some], end)
        logits = model.decode(ids, memory.expand(len(some), -1, -1))[torch.arange(len(some)), real.sum(1) - 1]
        each = logits.double().log_softmax(dim=-1)
        for (cost, tokens), row in zip(some, each, strict=True):
            total = row - cost
            if float(total[end]) > best[0]:
                best = float(total[end]), tokens
            bound = max(known - 1e-6, best[0])
            if len(tokens) < translator.longest - 1:
                for token in (total > bound).nonzero()[:, 0].tolist():
                    if token != end:
                        heapq.heappush(waiting, (-float(total[token]), [*tokens, token]))
        seen += len(some)
    solved = not waiting or -waiting[0][0] <= best[0]
    return {"solved": solved, "log_probability": round(best[0], 4), "tokens": len(best[1]), "looked_at": seen}


def main() -> None:
    """Measure, or go on, and write the table."""
    splits, translator = help_pages("de"), load_translation("de")
    data = TranslationData(splits, tokenizer=translator.tokenizer, max_tokens=translator.longest)
    pairs = fitting(translator, splits.test)
    weights = hashlib.sha256((FOLDER / "translation_de.safetensors").read_bytes()).hexdigest()
    sweep = Sweep("translation_quality")

    def measure(name: str, some: list[tuple[str, str]], size: int, alpha: float) -> dict:
        sides = [[pair[i] for pair in some] for i in (0, 1)]
        row = sweep(f"{weights[:12]} {name} {size} {alpha}", lambda: by_beam(translator, *sides, size, alpha))
        print(name, {key: value for key, value in row.items() if not isinstance(value, list)}, flush=True)
        return row

    sources, references = ([pair[i] for pair in pairs] for i in (0, 1))
    whole = [measure("all", pairs, size, alpha) for size, alpha in ALL]
    train = list(zip(splits.train.source, splits.train.target, strict=True))
    baselines = {
        "copy the source": scores(sources, references),
        "dictionary": scores(dictionary(train, sources), references),
    }
    print(baselines, flush=True)
    sample = [pairs[i * len(pairs) // SAMPLE] for i in range(SAMPLE)]
    rows = {(a, size): measure("sample", sample, size, a) for a, sizes in BEAMS.items() for size in sizes}
    found = []
    for i, (source, _) in enumerate(sample):
        if len(translator.tokenizer.encode(source)) > EXACT_TOKENS:
            continue
        beams = {size: rows[0.0, size]["log_probability"][i] for size in BEAMS[0.0]}
        known = max(beams.values())
        result = sweep(f"{weights[:12]} exact {source}", lambda s=source, k=known: exact(translator, s, k))
        found.append({**result, "beams": beams})
    solved = [one for one in found if one["solved"]]
    greedy = rows[0.0, 1]
    table = {
        "command": "python -m benchmarks.translation_quality",
        "environment": environment("sacrebleu"),
        "weights_sha256": weights,
        "data_sha256": translator.about["data_sha256"],
        "pairs": len(pairs),
        "left_out": len(splits.test) - len(pairs),
        "validation_loss": round(evaluate(translator.model, data.validation(64)), 4),
        "signatures": signatures(whole[0]["outputs"], references),
        "baselines": baselines,
        "all": [strip(row) for row in whole],
        "sample": SAMPLE,
        "rows": [
            {
                **strip(row),
                "below_greedy": sum(
                    a < b - 1e-3 for a, b in zip(row["log_probability"], greedy["log_probability"], strict=True)
                ),
            }
            for row in rows.values()
        ],
        "leads": {
            name: lead(rows[one]["outputs"], rows[other]["outputs"], [b for _, b in sample])
            for name, (one, other) in {
                "two over greedy": ((0.0, 2), (0.0, 1)),
                "two over thirty-two": ((0.0, 2), (0.0, 32)),
                "penalty, sixteen": ((0.6, 16), (0.0, 16)),
            }.items()
        },
        "exact": {
            "sentences": len(found),
            "most_tokens": EXACT_TOKENS,
            "solved": len(solved),
            "empty": sum(one["tokens"] == 0 for one in solved),
            "missed": {
                str(size): sum(one["log_probability"] > one["beams"][size] + 1e-3 for one in solved)
                for size in BEAMS[0.0]
            },
        },
    }
    write_table("translation_quality", table)


if __name__ == "__main__":
    main()
