"""A classifier's vectors are those of the sentence encoder, and its batches come in whole epochs."""

from collections import Counter

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from fmcourse.classification import LabelledData, TextClassifier, classify, pad
from fmcourse.config import TransformerConfig
from fmcourse.data.documentation import documented_functions, search_pairs
from fmcourse.data.sentiment import LabelledTexts
from fmcourse.pretrained import load_minilm
from fmcourse.training import TrainConfig, fit
from fmcourse.transformer import BERT

WORDS = "a b c d good bad".split()


def tokenizer():
    found = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="a"))
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    return found


def texts(n, seed=0):
    draw = torch.Generator().manual_seed(seed)
    rows = [torch.randint(4, (3 + i % 4,), generator=draw).tolist() for i in range(n)]
    labels = tuple(torch.randint(2, (n,), generator=draw).tolist())
    said = [
        " ".join(WORDS[i] for i in row) + (" good" if label else " bad")
        for row, label in zip(rows, labels, strict=True)
    ]
    return LabelledTexts(tuple(said), labels)


def small():
    torch.manual_seed(0)
    config = TransformerConfig(vocab_size=6, context=8, d_model=16, n_layers=1, n_heads=2)
    return TextClassifier(BERT(config).encoder, 2)


def test_vectors_are_the_sentence_encoders_scaled():
    minilm = load_minilm()
    said = ["A short one.", "A film that is as long as it is dull, and then some more of it.", "Good"]
    model = TextClassifier(minilm.model.encoder, 3).eval()
    logits, vectors = classify(model, minilm.tokenizer, said, max_length=minilm.max_length, batch_size=2)
    torch.testing.assert_close(vectors / 384**0.5, minilm.embed(said), rtol=0, atol=1e-5)
    assert torch.equal(logits, torch.zeros(3, 3))  # the head starts at zero


def test_padding_changes_nothing():
    model = small().double().eval()
    model.head.weight.data.normal_()
    rows = [[1, 2, 3], [0, 4, 5, 2, 1, 3]]
    together = model(**pad(rows))
    alone = torch.cat([model(**pad([row])) for row in rows])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n", "size"), [(10, 4), (3, 8), (16, 16), (5, 5)])
def test_every_text_comes_once_in_each_epoch(n, size):
    data = LabelledData(tokenizer(), texts(n), texts(4), max_length=8, seed=3)
    seen = [tuple(row[mask].tolist()) for step in range(n) for row, mask in rows_of(data.batch(step, size))]
    assert len(seen) == n * size
    whole = Counter(map(tuple, data.train_rows))
    for epoch in range(size):
        assert Counter(seen[epoch * n : (epoch + 1) * n]) == whole
    again = data.batch(2, size)
    assert torch.equal(again.inputs["tokens"], data.batch(2, size).inputs["tokens"])
    assert len(again) == size


def rows_of(batch):
    return zip(batch.inputs["tokens"], batch.inputs["real"], strict=True)


def test_labels_stay_with_their_texts():
    data = LabelledData(tokenizer(), texts(20), texts(20, seed=1), max_length=8)
    for batch in [data.batch(step, 7) for step in range(4)] + list(data.validation(6)):
        for (row, mask), label in zip(rows_of(batch), batch.targets.tolist(), strict=True):
            assert row[mask][-1] == (4 if label else 5)
    assert sum(len(batch) for batch in data.validation(6)) == 20
    assert sum(len(batch) for batch in data.validation(6, limit=9)) == 9


def test_a_classifier_learns_what_is_there_to_learn():
    data = LabelledData(tokenizer(), texts(64), texts(32, seed=1), max_length=8)
    model = small()
    config = TrainConfig(steps=60, batch_size=16, lr=3e-3, precision="fp32", eval_every=60)
    fit(model, data, config, device="cpu", progress=False)
    test = texts(50, seed=2)
    logits, _ = classify(model.eval(), tokenizer(), test.texts, max_length=8)
    assert (logits.argmax(dim=1) == torch.tensor(test.labels)).float().mean() > 0.95


def test_wrong_calls_say_what_is_wrong():
    nothing = LabelledTexts((), ())
    with pytest.raises(ValueError, match="texts to train on must be positive"):
        LabelledData(tokenizer(), nothing, texts(2), max_length=8)
    with pytest.raises(ValueError, match="texts to validate with must be positive"):
        LabelledData(tokenizer(), texts(2), nothing, max_length=8)
    with pytest.raises(ValueError, match="n_classes must be positive"):
        TextClassifier(small().encoder, 0)


def test_scipys_documentation_is_read_without_ambiguity():
    functions = documented_functions()
    assert len(functions) > 900
    assert len({one.headline for one in functions}) == len(functions)
    fft = next(one for one in functions if one.headline.startswith("Compute the 1-D discrete Fourier Transform"))
    assert fft.field == "fft"
    headlines, details = search_pairs(50)
    assert len(set(headlines)) == len(set(details)) == 50
    assert min(len(text.split()) for text in details) >= 8
