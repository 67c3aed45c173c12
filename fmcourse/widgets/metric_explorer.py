"""BLEU and chrF of one sentence while the reader edits it: what the two scores see, and what they do not."""

from collections.abc import Mapping, Sequence
from typing import Any

import traitlets
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.tokenizers.tokenizer_zh import _UCODE_RANGES

from fmcourse.widgets.base import Widget


class MetricExplorer(Widget):
    """An output that can be edited, beside its reference, with both scores as sacreBLEU computes them.

    Args:
        sentences: of each its `language` ("zh" cuts Chinese characters apart), `source`, `reference` and `outputs`, a
            text by the name of the system that wrote it.
        names: what the languages are called.
        output: the system shown first, or "reference".

    Raises TraitError when there is no sentence, or one without a system that the first one has. Taught in
    `practice/train_translation`. Source: Papineni et al. 2002; Popović 2015; Post 2018.
    """

    _module = "metric_explorer"

    label = traitlets.Unicode("Metric explorer: BLEU and chrF of a translation that you edit").tag(sync=True)
    labels = traitlets.Dict(
        {
            "sentence": "Sentence",
            "start": "Start from",
            "source": "English",
            "reference": "reference",
            "edit": "Output (edit it)",
            "again": "Start again",
            "groups": "groups of",
            "shared": "shared",
            "written": "in the output",
            "wanted": "in the reference",
            "share": "share",
            "of_words": "BLEU: groups of words",
            "of_characters": "chrF: groups of characters",
            "precision": "precision",
            "recall": "recall",
            "brevity": "brevity penalty",
            "words": "words",
            "seen": "The output as BLEU cuts it; underlined: words in no pair of words that the reference has too",
            "empty": "nothing is written",
        }
    ).tag(sync=True)
    sentences: traitlets.List[Any] = traitlets.List(traitlets.Dict()).tag(sync=True)
    names = traitlets.Dict().tag(sync=True)
    chinese: traitlets.List[Any] = traitlets.List(help="Code points that sacreBLEU takes for Chinese.").tag(sync=True)
    sentence = traitlets.Int(0).tag(sync=True)
    output = traitlets.Unicode().tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)

    def __init__(self, sentences: Sequence[Mapping[str, Any]], **kwargs: Any) -> None:
        if not sentences:
            raise traitlets.TraitError("sentences is empty; give at least one")
        systems = list(sentences[0]["outputs"])
        for one in sentences:
            if list(one["outputs"]) != systems:
                raise traitlets.TraitError(f"outputs of {one['source']!r} are {list(one['outputs'])}; wanted {systems}")
        kwargs.setdefault("output", systems[-1])
        # Two of the library's bounds are a character and a digit, by mistake; compared as text, they mean what follows.
        ranges = [[ord(a[0]) + (len(a) > 1), ord(b[0])] for a, b in _UCODE_RANGES]
        first = sentences[kwargs.get("sentence", 0)]
        text = {**first["outputs"], "reference": first["reference"]}[kwargs["output"]]
        super().__init__(sentences=[dict(one) for one in sentences], chinese=ranges, **{"text": text, **kwargs})

    def scores(self, sentence: int, text: str) -> dict[str, float]:
        """What the page shows for that text as a translation of that sentence: BLEU and chrF, 0 to 100."""
        one = self.sentences[sentence]
        bleu = BLEU(tokenize="zh" if one["language"] == "zh" else "13a", effective_order=True)
        references = [one["reference"]]
        return {
            "bleu": bleu.sentence_score(text, references).score,
            "chrf": CHRF().sentence_score(text, references).score,
        }
