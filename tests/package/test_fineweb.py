"""Token files hold every document once, in order, whatever interrupts their making; and a GPT-2 can train on them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from fmcourse import recipes
from fmcourse.data import fineweb
from fmcourse.data.fineweb import END_OF_TEXT, read_tokens, write_tokens
from fmcourse.data.registry import MissingDataError
from fmcourse.tokenizers import LibraryTokenizer, from_state
from fmcourse.training import fit
from fmcourse.transformer import GPT, count_parameters

DOCUMENTS = [f"Page {i} says {'ab' * (i % 7)} and no more." for i in range(400)]


@pytest.fixture
def tokenizer():
    """Bytes as tokens, with an end of text, in the library that GPT-2's own tokenizer comes in."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([END_OF_TEXT])
    return made


def one_by_one(tokenizer, documents):
    """What the file must begin with, made the slow way."""
    ids = []
    for text in documents:
        ids += [tokenizer.token_to_id(END_OF_TEXT), *tokenizer.encode(text).ids]
    return ids


def test_every_document_is_written_once_in_order_and_is_wholly_on_one_side(tmp_path, tokenizer):
    write_tokens(DOCUMENTS, tokenizer, tmp_path, n_tokens=3000, n_validation=500, at_once=7)
    train, validation = read_tokens(tmp_path)
    both = [*validation.tolist(), *train.tolist()]
    assert both == one_by_one(tokenizer, DOCUMENTS)[: len(both)]
    assert len(train) >= 3000
    assert 500 <= len(validation) < 550
    assert train[0] == validation[0] == tokenizer.token_to_id(END_OF_TEXT)
    assert isinstance(train, np.memmap)


@pytest.mark.parametrize("dies_at", [1, 13, 40, 63])
def test_an_interrupted_file_goes_on_where_it_stopped(tmp_path, tokenizer, dies_at):
    def until_the_network_fails():
        yield from DOCUMENTS[:dies_at]
        raise ConnectionError("the network is gone")

    options = {"n_tokens": 3000, "n_validation": 500, "at_once": 7}
    write_tokens(DOCUMENTS, tokenizer, tmp_path / "whole", **options)
    with pytest.raises(ConnectionError):
        write_tokens(until_the_network_fails(), tokenizer, tmp_path / "halved", **options)
    with (tmp_path / "halved" / "tokens.bin").open("ab") as file:
        file.write(b"half a page")  # written, but not noted
    write_tokens(DOCUMENTS, tokenizer, tmp_path / "halved", **options)
    for name in ("tokens.bin", "progress.json"):
        assert (tmp_path / "halved" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_finished_file_is_left_alone_and_can_grow(tmp_path, tokenizer):
    write_tokens(DOCUMENTS, tokenizer, tmp_path, n_tokens=1000, n_validation=100, at_once=7)
    before = (tmp_path / "tokens.bin").read_bytes()
    write_tokens(DOCUMENTS, tokenizer, tmp_path, n_tokens=1000, n_validation=100, at_once=7)
    assert (tmp_path / "tokens.bin").read_bytes() == before
    write_tokens(DOCUMENTS, tokenizer, tmp_path, n_tokens=2000, n_validation=100, at_once=7)
    assert (tmp_path / "tokens.bin").read_bytes()[: len(before)] == before


def test_what_cannot_be_written_is_refused(tmp_path, tokenizer):
    with pytest.raises(ValueError, match=r"the documents end after [\d,]+ tokens; n_tokens=10,000,000 were asked for"):
        write_tokens(DOCUMENTS, tokenizer, tmp_path, n_tokens=10_000_000)
    with pytest.raises(ValueError, match="n_tokens"):
        write_tokens(DOCUMENTS, tokenizer, tmp_path, n_tokens=0)
    with pytest.raises(ValueError, match=r"tokenizer needs the token <\|endoftext\|>"):
        write_tokens(DOCUMENTS, Tokenizer(models.BPE()), tmp_path, n_tokens=10)


def test_missing_tokens_are_named_with_the_command_that_makes_them(tmp_path):
    with pytest.raises(MissingDataError, match=r"python -m fmcourse\.data\.fineweb"):
        read_tokens(tmp_path)
    (tmp_path / "progress.json").write_text(json.dumps({"documents": 1, "tokens": 9, "validation": 0}))
    with pytest.raises(MissingDataError, match="holds no tokens yet"):
        read_tokens(tmp_path)


def test_the_pages_need_datasets_and_say_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match="pip install datasets"):
        fineweb._pages()


def test_the_recipe_is_gpt2_to_the_parameter():
    """124,439,808 is what `transformers` counts in the published checkpoint, position table included."""
    with torch.device("meta"):
        model = GPT(replace(recipes.gpt2_124m().model, vocab_size=50_257))
    assert count_parameters(model) == 124_439_808
    train = recipes.gpt2_124m().train
    assert train.batch_size * 1024 == 2**19
    assert train.steps * 2**19 == pytest.approx(10e9, rel=1e-4)


def test_a_shrunken_copy_of_the_recipe_takes_real_steps(tmp_path, tokenizer, monkeypatch):
    write_tokens(DOCUMENTS, tokenizer, tmp_path, n_tokens=5000, n_validation=500)
    monkeypatch.setattr(recipes, "read_tokens", lambda: read_tokens(tmp_path))
    monkeypatch.setattr(recipes, "gpt2_tokenizer", lambda: tokenizer)
    recipe = recipes.gpt2_124m()
    small = replace(recipe.model, context=16, d_model=32, n_layers=2, n_heads=2)
    config, data, reader = replace(recipe, model=small).load(seed=3)
    assert config.vocab_size == reader.vocab_size == 257
    assert DOCUMENTS[0] in reader.decode(data.validation_ids.tolist())
    train = replace(recipe.train, steps=30, batch_size=8, accumulate=2, warmup=2, lr=3e-3, compile=False, eval_every=15)
    history = fit(GPT(config), data, train, device="cpu", folder=tmp_path / "run", progress=False)
    losses = history.column("val_loss")
    assert losses[-1] < losses[0] < np.log(257) + 0.1


def test_the_tokenizer_of_a_checkpoint_needs_no_hub(tokenizer):
    """What `fmcourse train` stores beside the weights makes the same tokenizer again."""
    ours = LibraryTokenizer(tokenizer)
    again = from_state(json.loads(json.dumps(ours.state())))
    text = "Zürich, 東京 \U0001f600 and no more.\n"
    assert again.encode(text) == ours.encode(text) == tokenizer.encode(text).ids
    assert again.decode(ours.encode(text)) == text
    assert again.vocab_size == 257
    with pytest.raises(ValueError, match="token id 257 is out of range"):
        again.decode([257])
