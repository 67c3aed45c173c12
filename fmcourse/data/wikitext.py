"""WikiText-103, good articles of Wikipedia, from the hub, and the published tokenizer of BERT.

Taught in `practice/train_bert`. Source: Merity et al. 2017 (articles); Devlin et al. 2019 (tokenizer).
"""

from collections.abc import Iterator

from tokenizers import Tokenizer

DATA, SIZE = "Salesforce/wikitext", "wikitext-103-raw-v1"


def bert_tokenizer() -> Tokenizer:
    """BERT's published uncased WordPiece, from the hub. Taught in `practice/train_bert`."""
    return Tokenizer.from_pretrained("google-bert/bert-base-uncased")


def wikitext() -> tuple[Iterator[str], Iterator[str]]:
    """The paragraphs to train on and to validate with, without headings.

    Raises ModuleNotFoundError when `datasets` is not installed. Taught in `practice/train_bert`.
    """
    try:
        from datasets import load_dataset
    except ModuleNotFoundError:
        raise ModuleNotFoundError("WikiText is read with `datasets`; install it with: pip install datasets") from None
    splits = load_dataset(DATA, name=SIZE)

    def paragraphs(part: str) -> Iterator[str]:
        lines = (row["text"].strip() for row in splits[part])
        return (line for line in lines if line and not line.startswith("= "))

    return paragraphs("train"), paragraphs("validation")
