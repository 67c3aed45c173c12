"""Long sweeps: what was run is kept, so that an interrupted sweep goes on; and the table at the end."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from fmcourse.config import TransformerConfig
from fmcourse.data.text import LanguageModelData
from fmcourse.recipes import Recipe, gpt
from fmcourse.training import evaluate
from fmcourse.transformer import GPT

ROOT = Path(__file__).resolve().parent.parent


class Sweep:
    """Results of finished runs by what was run, in `runs/<name>.json`."""

    def __init__(self, name: str) -> None:
        self.file = ROOT / "runs" / f"{name}.json"
        self.done: dict[str, Any] = json.loads(self.file.read_text("utf-8")) if self.file.exists() else {}

    def __call__(self, key: str, run: Callable[[], Any]) -> Any:
        """The result of that run. The key must say all that could change it, so that another recipe is another run."""
        if key not in self.done:
            self.done[key] = run()
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_text(json.dumps(self.done), encoding="utf-8")
        return self.done[key]


def write_table(name: str, table: dict[str, Any], indent: int | None = 1) -> None:
    """Write the committed table `fmcourse/results/<name>.json`, which `fmcourse.results.load_result` reads."""
    text = json.dumps(table, ensure_ascii=False, indent=indent)
    (ROOT / "fmcourse" / "results" / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(f"wrote {name}.json")


@cache
def _texts() -> tuple[TransformerConfig, LanguageModelData]:
    return gpt("cpu").load()[:2]


def load(recipe: Recipe, seed: int) -> tuple[TransformerConfig, LanguageModelData]:
    """The recipe's model for Shakespeare's alphabet, and windows drawn by this seed; the text is encoded once."""
    config, known = _texts()
    ids = known.train_ids, known.validation_ids
    data = LanguageModelData(*ids, test=known.test_ids, tokenizer=None, context=config.context, seed=seed)
    return replace(recipe.model, vocab_size=config.vocab_size), data


def losses(model: GPT, data: LanguageModelData, limit: int | None = None) -> dict[str, float]:
    """Loss on the works held out, in at most `limit` windows of each part."""
    held_out = {"validation": data.validation(64, limit), "test": data.test(64, limit)}
    return {name: round(evaluate(model, batches), 4) for name, batches in held_out.items()}
