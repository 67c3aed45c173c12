"""How many tokens to hide, and what to put in their place: six ways of masking, all else equal.

    python -m benchmarks.masking_choices --seed 0     # about five minutes on one core for each seed
    python -m benchmarks.masking_choices --seed 1     # each goes on where it stopped
    python -m benchmarks.masking_choices              # writes fmcourse/results/masking_choices.json, for the chapter

Short runs of the recipe of `practice/train_bert`: only differences between them mean something. All are asked the same
questions about reviews of other films, however they were trained.
"""

import argparse
from dataclasses import asdict, replace

import torch
from tokenizers import Tokenizer

from benchmarks.common import environment
from benchmarks.film_models import FOLDER
from benchmarks.sweep import Sweep, write_table
from fmcourse.data.masked import BERT_RULE, MaskedLanguageData, Rule, Vocabulary, packed
from fmcourse.data.sentiment import film_texts, rotten_tomatoes
from fmcourse.masked_lm import MaskedLM
from fmcourse.recipes import bert
from fmcourse.training import fit

STEPS, SEEDS, WINDOWS, ASKED = 250, (0, 1), 600, 0.15
CHOICES = {
    "15 %": {"share": 0.15},
    "30 %": {"share": 0.3},
    "50 %": {"share": 0.5},
    "30 %, masks only": {"share": 0.3, "rule": Rule(1, 0)},
    "30 %, masks or itself": {"share": 0.3, "rule": Rule(0.8, 0)},
    "30 %, whole words": {"share": 0.3, "whole_words": True},
}


@torch.no_grad()
def measures(model: MaskedLM, ids, vocabulary: Vocabulary, windows: int | None = WINDOWS) -> dict[str, float]:
    """What the model makes of hidden tokens, hidden words, untouched tokens and replaced ones."""
    found: dict[str, float] = {}
    context = bert("cpu").model.context
    asked = {
        "token": {"rule": Rule(1, 0)},
        "word": {"rule": Rule(1, 0), "whole_words": True},
        "replaced": {"rule": Rule(0, 1)},
    }
    for name, how in asked.items():
        data = MaskedLanguageData(ids, ids, vocabulary=vocabulary, context=context, share=ASKED, **how)
        right, loss, kept, noticed = [], [], [], []
        for batch in data.validation(64, windows):
            tokens, gaps = batch.inputs["tokens"], batch.inputs["gaps"]
            logits = model(tokens)
            real = batch.targets >= 0
            here = logits[torch.arange(len(tokens))[:, None], gaps][real]
            truth, guess = batch.targets[real], here.argmax(dim=-1)
            right.append(guess == truth)
            loss.append(-here.log_softmax(dim=-1).gather(1, truth[:, None]).flatten())
            shown = tokens[torch.arange(len(tokens))[:, None], gaps][real]
            noticed.append((guess != shown)[shown != truth])
            untouched = (tokens >= vocabulary.n_special).scatter(1, gaps, False)
            kept.append((logits.argmax(dim=-1) == tokens)[untouched])
        found[name] = round(torch.cat(right).float().mean().item(), 4)
        if name == "token":
            found["loss"] = round(torch.cat(loss).mean().item(), 4)
        if name == "replaced":
            found["noticed"] = round(torch.cat(noticed).float().mean().item(), 4)
            found["kept"] = round(torch.cat(kept).float().mean().item(), 4)
    return found


def run(choice: str, seed: int) -> dict[str, float]:
    """Train one choice and ask it everything."""
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    vocabulary, splits, recipe = Vocabulary.of(tokenizer), rotten_tomatoes(), bert("cpu")
    train, held_out, test = (packed(tokenizer, t) for t in (film_texts(), splits.validation.texts, splits.test.texts))
    options = {"vocabulary": vocabulary, "context": recipe.model.context, "seed": seed, **CHOICES[choice]}
    torch.manual_seed(seed)
    model = MaskedLM(replace(recipe.model, vocab_size=vocabulary.size))
    config = replace(recipe.train, steps=STEPS, eval_every=STEPS, eval_examples=1, seed=seed)
    fit(model, MaskedLanguageData(train, held_out, **options), config, device="cpu", progress=False)
    return measures(model.eval(), test, vocabulary)


def main() -> None:
    """Run one seed, or write the table of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, choices=SEEDS)
    chosen = parser.parse_args().seed
    torch.set_num_threads(1)
    rows = []
    for choice, how in CHOICES.items():
        scores = []
        for seed in SEEDS if chosen is None else (chosen,):
            key = f"{choice} seed {seed} steps {STEPS}"
            scores.append(Sweep(f"masking_choices_{seed}")(key, lambda c=choice, s=seed: run(c, s)))
            print(key, scores[-1], flush=True)
        described = {
            "share": how["share"],
            "rule": list(how.get("rule", BERT_RULE)),
            "whole_words": "whole_words" in how,
        }
        rows.append({"choice": choice, **described, **{name: [s[name] for s in scores] for name in scores[0]}})
    if chosen is None:
        table = {
            "command": "python -m benchmarks.masking_choices",
            "environment": environment(),
            "steps": STEPS,
            "seeds": len(SEEDS),
            "asked": ASKED,
            "train": asdict(replace(bert("cpu").train, steps=STEPS)),
            "rows": rows,
        }
        write_table("masking_choices", table)


if __name__ == "__main__":
    main()
