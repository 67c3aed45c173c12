"""Published architectures in our modules give the numbers of `transformers`, for random and for published weights.

Tolerances: GPT-2 and BERT compute in the model's float64 on both sides (1e-10, from another order of summation).
`transformers` computes Llama's RMSNorm and rotary angles in float32 whatever the model's type, so Llama's logits agree
to 1e-5 of their size. Published float32 weights: 1e-5 for unit vectors, 1e-4 relative to the largest logit.
"""

import json

import pytest
import torch
import transformers
from builders import assert_same, config, ids, padding, randomise

from fmcourse.checkpoint import CheckpointError, load_weights
from fmcourse.data.registry import package_folder
from fmcourse.generation import generate
from fmcourse.pretrained import bert_config, bert_weights, gpt2_weights, llama_weights, load_minilm
from fmcourse.transformer import BERT, GPT, TransformerConfig

# --------------------------------------------------------------------------------------------------------------- GPT-2

# vocab_size, context, d_model, layers, heads
GPT2_SHAPES = [(31, 19, 24, 3, 4), (57, 23, 15, 2, 5), (11, 13, 7, 1, 7)]


def gpt2_pair(v, context, m, layers, heads, *, places=1.0, tied=True):
    """The same random GPT-2 in `transformers` and in our modules; its position vectors are `places` times as large."""
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=v,
            n_positions=context,
            n_embd=m,
            n_layer=layers,
            n_head=heads,
            bos_token_id=None,
            eos_token_id=None,
            tie_word_embeddings=tied,
        )
    )
    randomise(theirs)
    with torch.no_grad():
        theirs.transformer.wpe.weight.mul_(places)
    shape = {"vocab_size": v, "context": context, "d_model": m, "n_layers": layers, "n_heads": heads}
    ours = GPT(TransformerConfig(**shape, tie_embeddings=tied))
    load_weights(ours, gpt2_weights(theirs.state_dict(), layers), "transformers")
    return ours.eval(), theirs


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("shape", GPT2_SHAPES)
def test_gpt_logits_equal_gpt2(shape):
    ours, theirs = gpt2_pair(*shape)
    tokens = ids(shape[0], 3, shape[1])
    with torch.no_grad():
        assert_same(ours(tokens), theirs(tokens).logits, atol=1e-10)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("shape", GPT2_SHAPES)
def test_gpt_logits_of_padded_batches_equal_gpt2(shape, side):
    ours, theirs = gpt2_pair(*shape)
    tokens, real = ids(shape[0], 4, 11), padding([11, 2, 7, 1], 11, side)
    places = (real.cumsum(dim=1) - 1).clamp(min=0)
    with torch.no_grad():
        wanted = theirs(tokens, attention_mask=real.long(), position_ids=places).logits
        assert_same(ours(tokens, real=real)[real], wanted[real], atol=1e-10)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("shape", [(31, 29, 24, 3, 4), (57, 33, 15, 2, 5)])
def test_greedy_generation_equals_gpt2(shape):
    ours, theirs = gpt2_pair(*shape, places=40.0)
    prompts = [ids(shape[0], n, seed=n).tolist() for n in (5, 1, 9)]
    width = 9
    tokens = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    options = {"max_new_tokens": 17, "do_sample": False, "pad_token_id": 0}
    wanted = theirs.generate(tokens, attention_mask=padding([5, 1, 9], width, "left").long(), **options)[:, width:]
    given = generate(ours, prompts, max_new_tokens=17, temperature=0)
    assert given == wanted.tolist()
    assert len({token for row in given for token in row}) > 5  # not one token over and over
    stop = given[0][6]
    alone = {"inputs": tokens[:1, -5:], "attention_mask": torch.ones(1, 5, dtype=torch.long), **options}
    stopped = theirs.generate(**alone, eos_token_id=stop)[0, 5:].tolist()
    assert generate(ours, prompts[:1], max_new_tokens=17, temperature=0, stop=stop) == [stopped]


@pytest.mark.usefixtures("float64")
def test_gpt2_weights_of_an_untied_model_keep_its_own_head():
    ours, theirs = gpt2_pair(11, 13, 14, 1, 7, tied=False)
    tokens = ids(11, 2, 5)
    with torch.no_grad():
        assert_same(ours(tokens), theirs(tokens).logits, atol=1e-10)


# ---------------------------------------------------------------------------------------------------------------- BERT

# vocab_size, context, d_model, layers, heads, d_ff, segments
BERT_SHAPES = [(31, 19, 24, 3, 4, 37, 2), (57, 23, 15, 2, 5, 11, 3), (13, 17, 7, 1, 7, 29, 1)]


def bert_pair(v, context, m, layers, heads, f, segments):
    """The same random BERT with its masked-language-model head in `transformers` and in our modules."""
    published = transformers.BertConfig(
        vocab_size=v,
        max_position_embeddings=context,
        hidden_size=m,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=f,
        type_vocab_size=segments,
        layer_norm_eps=1e-7,
    )
    theirs = randomise(transformers.BertForMaskedLM(published))
    ours = BERT(bert_config(published.to_dict()))
    load_weights(ours, bert_weights(theirs.state_dict(), layers), "transformers")
    return ours.eval(), theirs


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("with_segments", [False, True])
@pytest.mark.parametrize("shape", BERT_SHAPES)
def test_encoder_outputs_and_masked_language_logits_equal_bert(shape, with_segments, padded):
    ours, theirs = bert_pair(*shape)
    tokens, real = ids(shape[0], 4, 11), padding([11, 2, 7, 1], 11) if padded else padding([11] * 4, 11)
    segments = ids(shape[-1], 4, 11, seed=3) if with_segments else None
    with torch.no_grad():
        wanted = theirs(tokens, attention_mask=real.long(), token_type_ids=segments, output_hidden_states=True)
        hidden = ours.hidden(tokens, segments=segments, real=real if padded else None)
        logits = ours(tokens, segments=segments, real=real if padded else None)
    assert_same(hidden[real], wanted.hidden_states[-1][real], atol=1e-10)
    assert_same(logits[real], wanted.logits[real], atol=1e-10)


def test_a_bert_with_another_activation_is_refused():
    published = transformers.BertConfig(hidden_act="relu").to_dict()
    with pytest.raises(ValueError, match="hidden_act='relu' is not known; choose one of 'gelu'"):
        bert_config(published)


# --------------------------------------------------------------------------------------------------------------- Llama

# vocab_size, context, d_model, layers, heads, kv heads, d_ff, rope base, tied
LLAMA_SHAPES = [
    (31, 19, 24, 3, 4, 2, 37, 10_000.0, True),
    (57, 23, 20, 2, 10, 2, 11, 100_000.0, False),
    (13, 29, 18, 1, 3, 3, 31, 500.0, True),
]


def llama_pair(v, context, m, layers, heads, kv, f, base, tied):
    """The same random Llama in `transformers` and in our modules."""
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=v,
            max_position_embeddings=context,
            hidden_size=m,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv,
            intermediate_size=f,
            rope_parameters={"rope_type": "default", "rope_theta": base},
            rms_norm_eps=1e-6,
            tie_word_embeddings=tied,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    randomise(theirs)
    shape = TransformerConfig(
        vocab_size=v,
        context=context,
        d_model=m,
        n_layers=layers,
        n_heads=heads,
        n_kv_heads=kv,
        d_ff=f,
        position="rotary",
        rope_base=base,
        norm="rms",
        norm_eps=1e-6,
        activation="swiglu",
        bias=False,
        tie_embeddings=tied,
    )
    ours = GPT(shape)
    load_weights(ours, llama_weights(theirs.state_dict(), layers), "transformers")
    return ours.eval(), theirs


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("side", ["none", "left", "right"])
@pytest.mark.parametrize("shape", LLAMA_SHAPES)
def test_gpt_logits_equal_llama(shape, side):
    ours, theirs = llama_pair(*shape)
    lengths = [17] * 4 if side == "none" else [17, 2, 7, 1]
    tokens, real = ids(shape[0], 4, 17), padding(lengths, 17, side)
    places = (real.cumsum(dim=1) - 1).clamp(min=0)
    with torch.no_grad():
        wanted = theirs(tokens, attention_mask=real.long(), position_ids=places).logits
        given = ours(tokens, real=None if side == "none" else real)
    assert_same(given[real], wanted[real], atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("shape", LLAMA_SHAPES)
def test_greedy_generation_equals_llama(shape):
    ours, theirs = llama_pair(*shape)
    prompts = [ids(shape[0], n, seed=n).tolist() for n in (5, 1, 9)]
    tokens = torch.tensor([[0] * (9 - len(prompt)) + prompt for prompt in prompts])
    mask = padding([5, 1, 9], 9, "left").long()
    wanted = theirs.generate(tokens, attention_mask=mask, max_new_tokens=9, do_sample=False, pad_token_id=0)
    assert generate(ours, prompts, max_new_tokens=9, temperature=0) == wanted[:, 9:].tolist()


def test_llama_weights_with_biases_are_not_dropped_in_silence():
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=13,
            hidden_size=18,
            num_hidden_layers=1,
            num_attention_heads=3,
            intermediate_size=5,
            attention_bias=True,
        )
    )
    with pytest.raises(ValueError, match=r"q_proj\.bias"):
        llama_weights(theirs.state_dict(), 1)


def test_weights_of_another_size_are_refused_with_the_first_difference():
    ours = GPT(config(vocab_size=31, context=19))
    _, theirs = gpt2_pair(31, 19, 18, 2, 6)
    with pytest.raises(
        CheckpointError, match=r"some file belongs to another model: decoder\.\S+ is \(.*\) there and \("
    ):
        load_weights(ours, gpt2_weights(theirs.state_dict(), 2), "some file")
    deeper = GPT(config(vocab_size=31, context=19, d_model=18, n_layers=3))
    with pytest.raises(CheckpointError, match=r"lacks \['decoder\.blocks\.2\."):
        load_weights(deeper, gpt2_weights(theirs.state_dict(), 2), "some file")
    with pytest.raises(ValueError, match=r"no place in our model: h\.1\.attn"):
        gpt2_weights(theirs.state_dict(), 1)


# -------------------------------------------------------------------------------------------------------------- MiniLM

TEXTS = [
    "",
    " ",
    "a",
    ".",
    "cat",
    "kitten",
    "The cat sat on the mat.",
    "A kitten was sitting on a rug.",
    "Stocks fell sharply on Thursday after the central bank raised its rates.",
    "UPPER case, lower CASE",
    "naïve café, Ångström, Übermut, señor",
    "你好，世界",
    "基础模型是在大规模数据上训练的模型。",
    "Chinese 中文 and English mixed 123",
    "こんにちは世界",
    "Привет, мир! Как дела?",
    "مرحبا بالعالم",
    "😀😃 emoji 🎉🎉",
    "3.14159265 + 2.71828 = 5.85987",
    "https://example.org/path?query=1&other=two#fragment",
    "tabs\tand\nnew lines\r\n in   a row",
    "\u200b\ufeffinvisible\u00adcharacters",
    "[CLS] [SEP] [MASK] [PAD] [UNK]",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer",
    "def f(x):\n    return x ** 2  # squares",
    "word " * 40,
    "The quick brown fox jumps over the lazy dog. " * 12,
    "A sentence that is cut, because it is far too long for the model. " * 40,
    "模" * 700,
    "x" * 3000,
    " ".join(str(i) for i in range(300)),
]


@pytest.fixture(scope="module")
def minilm():
    return load_minilm()


@pytest.fixture(scope="module")
def reference_embeddings():
    """One text at a time through `transformers`: tokenise, cut, encode, mean over tokens, unit length."""
    folder = package_folder("minilm") / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertModel.from_pretrained(folder).eval()
    longest = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    vectors = []
    for text in TEXTS:
        inputs = tokenizer([text], truncation=True, max_length=longest, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state[0]
        vectors.append(hidden.mean(dim=0) / hidden.mean(dim=0).norm())
    return torch.stack(vectors)


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_encoder_reproduces_minilm_embeddings(minilm, reference_embeddings, batch_size):
    given = minilm.embed(TEXTS, batch_size=batch_size)
    assert_same(given, reference_embeddings, atol=1e-5)
    assert_same(given.norm(dim=1), torch.ones(len(TEXTS)), atol=1e-6)


def test_like_meanings_are_near_and_unlike_ones_far(minilm):
    cat, kitten, stocks = minilm.embed([TEXTS[6], TEXTS[7], TEXTS[8]])
    assert float(cat @ kitten) > 0.5 > 0.2 > float(cat @ stocks)


def test_no_text_at_all_is_refused(minilm):
    with pytest.raises(ValueError, match="texts is empty; give at least one"):
        minilm.embed([])
