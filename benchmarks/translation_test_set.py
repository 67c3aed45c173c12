"""The shipped translators on every test pair: scores with intervals, by length of the source, beside two baselines.

    python -m benchmarks.translation_test_set      # about five minutes on one core; goes on where it stopped

The dictionary is the chapter's. Intervals are a paired bootstrap: a thousand times as many sentences are drawn with
replacement, the same ones for every system (Koehn 2004). Shown in `practice/train_translation`; the table is
`fmcourse/results/translation_test_set.json`.
"""

import hashlib
import re
from typing import get_args

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from benchmarks.common import environment
from benchmarks.from_chapter import definitions
from benchmarks.sweep import Sweep, write_table
from benchmarks.translation_quality import fitting
from fmcourse.data.translation import Language, help_pages
from fmcourse.translator import FOLDER, load_translation
from fmcourse.word_alignment import learn_table

DRAWS, LENGTHS = 1000, ((2, 5), (6, 10), (11, 20), (21, 40))  # words of the source
SEARCHES = {"greedy": (1, 0.0), "beam of 4": (4, 0.6)}


class Scorer:
    """BLEU or chrF of any choice of sentences, from what sacreBLEU counts in each of them."""

    def __init__(self, metric: BLEU | CHRF, outputs: list[str], references: list[str]) -> None:
        self.metric = metric
        self.counts = np.array(metric._extract_corpus_statistics(outputs, [references]))

    def __call__(self, rows: np.ndarray) -> float:
        """Of those sentences, repeats counted."""
        return float(self.metric._compute_score_from_stats(self.counts[rows].sum(axis=0).tolist()).score)


def interval(values: list[float]) -> dict[str, float]:
    """The middle 95 % of them."""
    low, high = np.quantile(values, (0.025, 0.975))
    return {"low": round(float(low), 2), "high": round(float(high), 2)}


def drawn(rows: np.ndarray) -> list[np.ndarray]:
    """The same draws at every call."""
    generator = np.random.default_rng(0)
    return [generator.choice(rows, len(rows)) for _ in range(DRAWS)]


def measure(language: Language, sweep: Sweep) -> dict:
    """One language's part of the table."""
    given = {"re": re, "learn_table": learn_table}
    own = definitions("practice/train_translation", "words dictionary pieces_of", given)
    splits, translator = help_pages(language), load_translation(language)
    weights = hashlib.sha256((FOLDER / f"translation_{language}.safetensors").read_bytes()).hexdigest()
    pairs = fitting(translator, splits.test)
    sources, references = ([pair[i] for pair in pairs] for i in (0, 1))
    cut = own["pieces_of"](translator.tokenizer) if language == "zh" else own["words"]
    outputs = {"copy": sources, "dictionary": own["dictionary"](splits.train, cut, sources)}
    for name, (size, alpha) in SEARCHES.items():
        outputs[name] = sweep(
            f"{weights[:12]} {language} {name}",
            lambda size=size, alpha=alpha: translator.translate(sources, beam_size=size, alpha=alpha),
        )
    kinds = {"bleu": BLEU(tokenize="zh" if language == "zh" else "13a"), "chrf": CHRF()}
    scorers = {
        (name, kind): Scorer(metric, texts, references)
        for kind, metric in kinds.items()
        for name, texts in outputs.items()
    }
    everything = np.arange(len(pairs))
    systems = {
        name: {
            **{kind: round(scorers[name, kind](everything), 2) for kind in kinds},
            "exact": round(float(np.mean([a == b for a, b in zip(texts, references, strict=True)])), 4),
            "characters": round(sum(map(len, texts)) / sum(map(len, references)), 4),
        }
        for name, texts in outputs.items()
    }
    for kind, metric in kinds.items():  # the counts must give what the library itself gives
        for name, texts in outputs.items():
            assert abs(metric.corpus_score(texts, [references]).score - systems[name][kind]) < 0.01
    words = np.array([len(source.split()) for source in sources])
    lengths = []
    for low, high in LENGTHS:
        rows = np.flatnonzero((low <= words) & (words <= high))
        draws = drawn(rows)
        row = {"from": low, "to": high, "pairs": len(rows)}
        for name in outputs:
            row[name] = {
                kind: {
                    "value": round(scorers[name, kind](rows), 2),
                    **interval([scorers[name, kind](some) for some in draws]),
                }
                for kind in kinds
            }
        lengths.append(row)
    leads, draws = {}, drawn(everything)
    for kind in kinds:
        ours, other = scorers["beam of 4", kind], scorers["greedy", kind]
        leads[kind] = {
            "value": round(ours(everything) - other(everything), 2),
            **interval([ours(some) - other(some) for some in draws]),
        }
    return {
        "pairs": len(pairs),
        "left_out": len(splits.test) - len(pairs),
        "weights_sha256": weights,
        "data_sha256": translator.about["data_sha256"],
        "signatures": {kind: str(metric.get_signature()) for kind, metric in kinds.items()},
        "systems": systems,
        "lead": leads,
        "lengths": lengths,
    }


def main() -> None:
    """Measure, or go on, and write the table."""
    sweep, found = Sweep("translation_test_set"), {}
    for language in get_args(Language):
        if (FOLDER / f"translation_{language}.safetensors").exists():
            found[language] = measure(language, sweep)
            print(language, found[language]["systems"], found[language]["lead"], sep="\n", flush=True)
        else:
            print(f"no translator yet: python -m benchmarks.translation_checkpoint {language}")
    table = {
        "command": "python -m benchmarks.translation_test_set",
        "environment": environment("sacrebleu"),
        "draws": DRAWS,
        "languages": found,
    }
    write_table("translation_test_set", table)


if __name__ == "__main__":
    main()
