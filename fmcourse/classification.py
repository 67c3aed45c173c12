"""Texts into classes: a head on an encoder, and labelled texts as training batches.

Taught in `concepts/pretraining_and_finetuning`.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from torch import Tensor, nn

from fmcourse.checks import check_positive
from fmcourse.data.batch import Batch
from fmcourse.data.sentiment import LabelledTexts
from fmcourse.transformer import Stack


class TextClassifier(nn.Module):
    """An encoder, the mean of its token vectors, and a linear head.

    The mean is scaled to length sqrt(d_model), so that its entries are
    about 1 whatever the encoder; the head starts at zero. Source: Devlin et
    al. 2019, section 3.2, with the mean in place of the first token's
    vector (Reimers & Gurevych 2019).
    """

    def __init__(self, encoder: Stack, n_classes: int) -> None:
        super().__init__()
        check_positive("n_classes", n_classes)
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.d_model, n_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def vectors(self, tokens: Int[Tensor, "b t"], real: Bool[Tensor, "b t"]) -> Float[Tensor, "b m"]:
        """One vector a text."""
        hidden = self.encoder(tokens, real=real)
        total = (hidden * real[..., None]).sum(dim=1)
        return F.normalize(total, dim=-1) * total.shape[-1] ** 0.5

    def forward(self, tokens: Int[Tensor, "b t"], real: Bool[Tensor, "b t"]) -> Float[Tensor, "b c"]:
        """Logits of the classes."""
        return self.head(self.vectors(tokens, real))


def pad(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Token ids of several texts, filled up to the longest, and which of them are real."""
    width = max(map(len, rows))
    tokens = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    return {"tokens": tokens, "real": torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]}


class LabelledData:
    """Labelled texts as a `DataSource`: every text once in each epoch, in an order drawn from (seed, epoch).

    Args:
        max_length: longer texts are cut to so many tokens, the closing one included.

    Raises ValueError when there is no text to train on or to validate with.
    """

    def __init__(
        self, tokenizer: Tokenizer, train: LabelledTexts, validation: LabelledTexts, *, max_length: int, seed: int = 0
    ) -> None:
        check_positive("texts to train on", len(train))
        check_positive("texts to validate with", len(validation))
        tokenizer.enable_truncation(max_length)
        self.train_rows, self.validation_rows = (
            [encoding.ids for encoding in tokenizer.encode_batch(list(part.texts))] for part in (train, validation)
        )
        self.train_labels, self.validation_labels = train.labels, validation.labels
        self.seed = seed

    def batch(self, step: int, size: int) -> Batch:
        """The next `size` texts, the same at every call with the same step; a few texts come round many times."""
        n = len(self.train_rows)
        chosen = []
        for epoch in range(step * size // n, ((step + 1) * size - 1) // n + 1):
            order = torch.randperm(n, generator=torch.Generator().manual_seed(self.seed * 1_000_003 + epoch))
            chosen += order[max(step * size - epoch * n, 0) : (step + 1) * size - epoch * n].tolist()
        return Batch(pad([self.train_rows[i] for i in chosen]), torch.tensor([self.train_labels[i] for i in chosen]))

    def validation(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Batches of evenly spaced validation texts, `limit` in all (every text when None)."""
        n = len(self.validation_rows)
        count = n if limit is None else min(limit, n)
        rows = [i * n // count for i in range(count)]
        for start in range(0, count, size):
            part = rows[start : start + size]
            labels = torch.tensor([self.validation_labels[i] for i in part])
            yield Batch(pad([self.validation_rows[i] for i in part]), labels)


@torch.inference_mode()
def classify(
    model: TextClassifier, tokenizer: Tokenizer, texts: Sequence[str], *, max_length: int, batch_size: int = 64
) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n m"]]:
    """Logits and vectors of the texts, on the CPU; texts of like length run together."""
    tokenizer.enable_truncation(max_length)
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    device, found = model.head.weight.device, []
    for start in range(0, len(rows), batch_size):
        inputs = pad([rows[i] for i in order[start : start + batch_size]])
        found.append(model.vectors(**{name: value.to(device) for name, value in inputs.items()}).float())
    back = torch.tensor(sorted(range(len(order)), key=order.__getitem__))
    vectors = torch.cat(found)[back.to(device)]
    return model.head(vectors).float().cpu(), vectors.cpu()
