"""What does the reference implementation say? Embeddings of a few sentences by `transformers`, for all-MiniLM-L6-v2.

    python -m benchmarks.minilm_reference        # a few seconds; writes the committed table

A chapter may not import `transformers`. So `concepts/architectures` compares `fmcourse`'s own encoder with this table,
`fmcourse/results/minilm_reference.json`; `tests/package/test_published_sizes.py` computes it again.
"""

from collections.abc import Sequence

import torch
import transformers

from benchmarks.common import environment
from benchmarks.sweep import write_table
from fmcourse.data.registry import package_folder

SENTENCES = (
    "The cat sat on the mat.",
    "A kitten was resting on the rug.",
    "The report lies on the desk.",
    "Foundation models are trained once and used many times.",
    "To be, or not to be, that is the question.",
    "Cafés in Zürich open at 7:30.",
)


def reference(sentences: Sequence[str] = SENTENCES) -> list[list[float]]:
    """Each sentence alone through `transformers`: tokenise, encode, mean over its tokens, length 1; in float64."""
    folder = package_folder("minilm") / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertModel.from_pretrained(folder).eval().double()
    vectors = []
    for sentence in sentences:
        with torch.no_grad():
            mean = model(**tokenizer([sentence], return_tensors="pt")).last_hidden_state[0].mean(dim=0)
        vectors.append([round(x, 8) for x in (mean / mean.norm()).tolist()])
    return vectors


def main() -> None:
    """Write the table."""
    table = {
        "command": "python -m benchmarks.minilm_reference",
        "environment": environment("transformers"),
        "sentences": SENTENCES,
        "vectors": reference(),
    }
    write_table("minilm_reference", table, indent=None)


if __name__ == "__main__":
    main()
