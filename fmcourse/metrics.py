"""Named doors to the libraries that score generated text: sacreBLEU and rouge-score.

Taught in `practice/train_translation` and `practice/train_summarisation`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from fmcourse.checks import check_choice

Tokenisation = Literal["13a", "zh", "char", "none"]


@dataclass(frozen=True)
class Score:
    """A score of a whole test set and how it was counted.

    Args:
        value: 0 to 100; higher is better.
        signature: of sacreBLEU; scores with different signatures cannot be compared (Post 2018).
    """

    value: float
    signature: str

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.signature})"


def _check(outputs: Sequence[str], references: Sequence[str]) -> None:
    if isinstance(outputs, str) or isinstance(references, str):
        raise ValueError("outputs and references must be lists of texts; got one text")
    if len(outputs) != len(references):
        raise ValueError(f"there are {len(outputs)} outputs and {len(references)} references; each needs its own")
    if not outputs:
        raise ValueError("outputs is empty: there is nothing to score")


def bleu(outputs: Sequence[str], references: Sequence[str], *, tokenize: Tokenisation = "13a") -> Score:
    """Corpus BLEU by sacreBLEU; `tokenize="zh"` when the outputs are Chinese.

    Raises ValueError: not one reference for each output, or nothing to score. Source: Papineni et al. 2002; Post 2018.
    """
    _check(outputs, references)
    check_choice("tokenize", tokenize, Tokenisation)
    metric = BLEU(tokenize=tokenize)
    value = metric.corpus_score(list(outputs), [list(references)]).score
    return Score(value, str(metric.get_signature()))


def chrf(outputs: Sequence[str], references: Sequence[str]) -> Score:
    """Corpus chrF by sacreBLEU: F-score of character n-grams, which needs no words.

    Raises ValueError: not one reference for each output, or nothing to score. Source: Popović 2015.
    """
    _check(outputs, references)
    metric = CHRF()
    value = metric.corpus_score(list(outputs), [list(references)]).score
    return Score(value, str(metric.get_signature()))


def rouge(outputs: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-L by rouge-score: mean F1 over the texts, 0 to 100, on stemmed words.

    For English; the library sees Latin letters and digits only. Raises ValueError: not one reference for each output,
    or nothing to score. Source: Lin 2004.
    """
    _check(outputs, references)
    names = ("rouge1", "rouge2", "rougeL")
    scorer = RougeScorer(list(names), use_stemmer=True)
    rows = [scorer.score(reference, output) for output, reference in zip(outputs, references, strict=True)]
    return {name: 100 * sum(row[name].fmeasure for row in rows) / len(rows) for name in names}
