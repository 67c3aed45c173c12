"""Hidden tokens: the shares are those asked for, special tokens stay, words are hidden whole, every step repeats."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from fmcourse.config import TransformerConfig
from fmcourse.data.batch import IGNORE
from fmcourse.data.masked import BERT_RULE, MaskedLanguageData, Rule, Vocabulary, choose, hide, n_gaps, packed
from fmcourse.data.wikitext import wikitext
from fmcourse.masked_lm import MaskedLM
from fmcourse.training import TrainConfig, evaluate, fit
from fmcourse.transformer import BERT

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", *(f"##{c}" for c in "abcdefgh")]


@pytest.fixture
def tokenizer():
    made = Tokenizer(models.WordPiece({name: i for i, name in enumerate(PIECES)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    marks = [(name, PIECES.index(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
    return made


@pytest.fixture
def vocabulary(tokenizer):
    return Vocabulary.of(tokenizer)


def stream(n, vocabulary, seed=0):
    ids = torch.randint(vocabulary.n_special, vocabulary.size, (n,), generator=torch.Generator().manual_seed(seed))
    ids[::9] = 2
    return ids.numpy()


def rows(vocabulary, shape=(400, 50)):
    return torch.from_numpy(stream(shape[0] * shape[1], vocabulary)).reshape(shape)


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_vocabulary_is_read_off_the_tokenizer(vocabulary):
    assert (vocabulary.size, vocabulary.mask, vocabulary.n_special) == (21, 4, 5)
    assert vocabulary.continues.nonzero().flatten().tolist() == list(range(13, 21))


def test_published_tokenizers_have_special_ids_in_between():
    """BERT's own starts with [PAD], [unused0] to [unused98], [UNK], [CLS], [SEP], [MASK], [unused99] and so on."""
    names = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]", "!", "[", "a", "##a"]
    made = Vocabulary.of(Tokenizer(models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]")))
    assert (made.mask, made.n_special) == (5, 7)
    with pytest.raises(ValueError, match=r"no \[MASK\]"):
        Vocabulary.of(Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]")))


def test_texts_are_packed_one_after_the_other_with_their_marks(tokenizer):
    expected = [2, 5, 14, 7, 3, 2, 8, 3]
    assert packed(tokenizer, ["AB c", "d"]).tolist() == expected
    assert packed(tokenizer, iter(["AB c", "d"]), at_once=1).tolist() == expected
    assert packed(tokenizer, []).size == 0


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_every_row_has_its_share_and_every_place_its_chance(vocabulary, share):
    ids = rows(vocabulary)
    chosen = choose(ids, share, drawn(), vocabulary)
    assert (chosen.sum(dim=1) == n_gaps(share, 50)).all()
    assert not (chosen & (ids < vocabulary.n_special)).any()
    able = ids >= vocabulary.n_special
    chance = chosen.sum(dim=0) / able.sum(dim=0)
    assert (chance - chosen.sum() / able.sum()).abs().max() < 0.12  # four standard deviations


def test_the_number_of_gaps_is_never_none_and_never_all():
    assert [n_gaps(0.15, 64), n_gaps(0.15, 3), n_gaps(0.999, 8)] == [10, 1, 7]


def test_whole_words_are_chosen_whole(vocabulary):
    ids = rows(vocabulary)
    chosen = choose(ids, 0.3, drawn(), vocabulary, whole_words=True)
    for row, picks in zip(ids.tolist(), chosen.tolist(), strict=True):
        for i in range(1, len(row)):
            if vocabulary.continues[row[i]] and row[i - 1] >= vocabulary.n_special:
                assert picks[i] == picks[i - 1]
    counts = chosen.sum(dim=1)
    assert counts.max() <= n_gaps(0.3, 50)
    assert counts.float().mean() > 0.85 * n_gaps(0.3, 50)


def test_chosen_tokens_become_a_mask_another_or_stay_as_the_rule_says(vocabulary):
    ids = rows(vocabulary, (2000, 50))
    chosen = choose(ids, 0.5, drawn(), vocabulary)
    shown = hide(ids, chosen, drawn(1), vocabulary)
    assert torch.equal(shown[~chosen], ids[~chosen])
    masked, same = shown == vocabulary.mask, shown == ids
    n, ordinary = chosen.sum(), vocabulary.size - vocabulary.n_special
    assert masked.sum() / n == pytest.approx(0.8, abs=0.01)
    assert (same & chosen).sum() / n == pytest.approx(0.1 + 0.1 / ordinary, abs=0.01)
    others = shown[chosen & ~masked & ~same]
    assert others.min() >= vocabulary.n_special
    assert torch.bincount(others)[vocabulary.n_special :].float().std() < 0.15 * len(others) / ordinary


@pytest.mark.parametrize(("rule", "share_masked"), [(Rule(1, 0), 1), (Rule(0, 0), 0), (Rule(0, 1), 0)])
def test_extreme_rules(vocabulary, rule, share_masked):
    ids = rows(vocabulary)
    chosen = choose(ids, 0.3, drawn(), vocabulary)
    shown = hide(ids, chosen, drawn(1), vocabulary, rule=rule)
    assert (shown[chosen] == vocabulary.mask).float().mean() == share_masked
    assert torch.equal(shown, ids) == (rule == Rule(0, 0))


def data(vocabulary, **changes):
    options = {"context": 20, "share": 0.3, "seed": 3, **changes}
    train, validation = stream(1000, vocabulary), stream(300, vocabulary, seed=1)
    return MaskedLanguageData(train, validation, vocabulary=vocabulary, **options)


def test_a_batch_asks_for_what_it_has_hidden(vocabulary):
    made = data(vocabulary, rule=Rule(1, 0))
    batch = made.batch(5, 7)
    tokens, gaps, targets = batch.inputs["tokens"], batch.inputs["gaps"], batch.targets
    assert tokens.shape == (7, 20)
    assert gaps.shape == targets.shape == (7, 6)
    assert ((tokens == vocabulary.mask).sum(dim=1) == 6).all()
    restored = tokens.scatter(1, gaps, targets)
    windows = np.lib.stride_tricks.sliding_window_view(made.train_ids, 20).tolist()
    assert all(row in windows for row in restored.tolist())
    assert (gaps[:, 1:] > gaps[:, :-1]).all()


def test_rows_with_fewer_gaps_are_filled_with_what_is_not_scored(vocabulary):
    batch = data(vocabulary, whole_words=True, rule=Rule(1, 0)).batch(0, 200)
    scored = batch.targets != IGNORE
    assert not scored.all()
    assert torch.equal((batch.inputs["tokens"] == vocabulary.mask).sum(dim=1), scored.sum(dim=1))
    assert (batch.inputs["tokens"].gather(1, batch.inputs["gaps"])[scored] == vocabulary.mask).all()


def test_a_step_repeats_exactly_and_another_step_hides_other_tokens(vocabulary):
    first, again = data(vocabulary).batch(3, 8), data(vocabulary).batch(3, 8)
    for name, value in first.inputs.items():
        assert torch.equal(value, again.inputs[name])
    assert not torch.equal(first.inputs["gaps"], data(vocabulary).batch(4, 8).inputs["gaps"])
    assert not torch.equal(first.inputs["gaps"], data(vocabulary, seed=4).batch(3, 8).inputs["gaps"])


def test_validation_does_not_depend_on_the_size_of_its_batches(vocabulary):
    made = data(vocabulary)
    whole, parts = list(made.validation(100)), list(made.validation(4))
    assert sum(map(len, parts)) == len(whole[0]) == 15
    assert torch.equal(torch.cat([part.targets for part in parts]), whole[0].targets)
    assert len(next(made.validation(100, limit=6))) == 6
    with pytest.raises(ValueError, match="no test text"):
        next(made.test(4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 0.0}, "share must be between 0 and 1; got 0.0"),
        ({"share": 1.0}, "share must be between 0 and 1; got 1.0"),
        ({"rule": Rule(0.8, 0.3)}, "sum of at most 1"),
        ({"rule": Rule(-0.1, 0.3)}, "probabilities"),
        ({"context": 1}, "context must be at least 2"),
        ({"context": 400}, "validation has 300 tokens; context=400"),
    ],
)
def test_what_cannot_be_is_refused(vocabulary, changes, message):
    with pytest.raises(ValueError, match=message):
        data(vocabulary, **changes)


def model_config(vocabulary, **changes):
    return TransformerConfig(vocab_size=vocabulary.size, context=20, d_model=16, n_layers=2, n_heads=2, **changes)


def test_logits_at_the_gaps_are_those_of_the_whole_model(vocabulary):
    torch.manual_seed(0)
    model = MaskedLM(model_config(vocabulary)).double()
    plain = BERT(model.config).double()
    plain.load_state_dict(model.state_dict())
    batch = data(vocabulary).batch(0, 5)
    tokens, gaps = batch.inputs["tokens"], batch.inputs["gaps"]
    everywhere = plain(tokens)
    assert torch.equal(model(tokens), everywhere)
    here = torch.stack([row[places] for row, places in zip(everywhere, gaps, strict=True)])
    assert (model(tokens, gaps) - here).abs().max() < 1e-12


def test_training_goes_on_exactly_where_it_was_interrupted(vocabulary, tmp_path):
    config = TrainConfig(steps=6, batch_size=4, eval_every=3, eval_examples=8, precision="fp32")
    quiet = {"device": "cpu", "progress": False}

    def fresh():
        torch.manual_seed(0)
        return MaskedLM(model_config(vocabulary, dropout=0.1))

    class PowerCut(Exception):
        pass

    def cut(row):
        if row["step"] == 3:
            raise PowerCut

    whole, halved = fresh(), fresh()
    fit(whole, data(vocabulary), config, **quiet)
    with pytest.raises(PowerCut):
        fit(halved, data(vocabulary), config, folder=tmp_path, on_evaluation=cut, **quiet)
    resumed = fresh()
    fit(resumed, data(vocabulary), config, folder=tmp_path, **quiet)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_it_learns_what_only_both_sides_tell(vocabulary):
    """Letters come as x y x with y = the sum of its neighbours: neither side alone gives it."""
    generator = np.random.default_rng(0)

    def text(n):
        outside = generator.integers(0, 8, 2 * n)
        return np.stack([outside[::2], (outside[::2] + outside[1::2]) % 8, outside[1::2]], 1).reshape(-1) + 5

    made = MaskedLanguageData(text(4000), text(400), vocabulary=vocabulary, context=12, share=0.1, rule=Rule(1, 0))
    torch.manual_seed(0)
    model = MaskedLM(model_config(vocabulary, d_ff=64))
    before = evaluate(model, made.validation(64))
    config = TrainConfig(steps=300, batch_size=64, lr=1e-2, eval_every=300, precision="fp32")
    fit(model, made, config, device="cpu", progress=False)
    assert evaluate(model, made.validation(64)) < before - 0.5


def test_wikitext_loses_headings_and_empty_lines(monkeypatch):
    pages = {
        part: [{"text": t} for t in ("", " = Valkyria = \n", f" The {part} text . \n")]
        for part in ("train", "validation")
    }
    asked = []

    def load_dataset(data, **options):
        asked.append((data, options))
        return pages

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert [list(part) for part in wikitext()] == [["The train text ."], ["The validation text ."]]
    assert asked == [("Salesforce/wikitext", {"name": "wikitext-103-raw-v1"})]
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match="pip install datasets"):
        wikitext()


def test_berts_rule():
    assert BERT_RULE == (0.8, 0.1)
