"""The packaged SmolLM2 in our modules gives the tokens, the numbers and the continuations of `transformers`.

Published weights in float32: logits agree to 1e-4 of the largest.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import regex
import torch
from builders import assert_same

from fmcourse.data.registry import package_folder
from fmcourse.generation import generate
from fmcourse.pretrained import ChatModel, load_smollm2, load_smollm2_tokenizer


@dataclass(frozen=True)
class SmolLM2:
    """The packaged model in our modules (`ours`) and in `transformers` (`theirs`, `their_tokenizer`)."""

    ours: ChatModel
    theirs: Any
    their_tokenizer: Any


@pytest.fixture(scope="module")
def smollm2() -> SmolLM2:
    """The GGUF file read twice, by `fmcourse` and by `transformers`: once for all tests."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(package_folder("smollm2"))}
    source["gguf_file"] = "SmolLM2-135M-Instruct.Q4_1.gguf"
    theirs = AutoModelForCausalLM.from_pretrained(**source).eval()
    return SmolLM2(load_smollm2(), theirs, AutoTokenizer.from_pretrained(**source))


CONVERSATION = "<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n"
PROMPTS = ["The capital of France is", "Once upon a time, there was a little", "1, 2, 3, 4,", CONVERSATION]


def test_smollm2_logits_equal_the_reference(smollm2):
    text = "In 1905, Albert Einstein published four papers; 中文 and 😀 too. " + CONVERSATION
    tokens = torch.tensor([smollm2.ours.tokenizer.encode(text).ids])
    with torch.no_grad():
        wanted = smollm2.theirs(tokens).logits
        given = smollm2.ours.model(tokens)
    assert_same(given, wanted, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_smollm2_continues_prompts_like_the_reference(smollm2, prompt):
    tokens = smollm2.ours.tokenizer.encode(prompt).ids
    options = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": smollm2.ours.end}
    inputs = {"inputs": torch.tensor([tokens]), "attention_mask": torch.ones(1, len(tokens), dtype=torch.long)}
    wanted = smollm2.theirs.generate(**inputs, **options, eos_token_id=smollm2.ours.end)[0, len(tokens) :]
    given = generate(smollm2.ours.model, [tokens], max_new_tokens=20, temperature=0, stop=smollm2.ours.end)
    assert given == [wanted.tolist()]


def test_smollm2_continues_a_batch_of_different_lengths_like_single_prompts(smollm2):
    prompts = [smollm2.ours.tokenizer.encode(prompt).ids for prompt in PROMPTS]
    assert len({len(prompt) for prompt in prompts}) == 4
    together = generate(smollm2.ours.model, prompts, max_new_tokens=12, temperature=0)
    alone = [generate(smollm2.ours.model, [prompt], max_new_tokens=12, temperature=0)[0] for prompt in prompts]
    assert together == alone


def test_smollm2_knows_the_capital_of_france(smollm2):
    tokenizer = smollm2.ours.tokenizer
    (new,) = generate(smollm2.ours.model, [tokenizer.encode(PROMPTS[0]).ids], max_new_tokens=2, temperature=0)
    assert "Paris" in tokenizer.decode(new)


VARIED = [
    "Hello, world!",
    "  spaces   and\ttabs\n\n and \r\n",
    "don't we'll I'm they've it's he'd you're",
    "émile naïve 你好，世界 こんにちは Привет 😀👩‍👩‍👧",
    "In 1905, 42 people paid 3.14 for 1234567890 things in 2024年 at 12:30",
    "a1b22 333 7\n8 9",
    "def f(x):\n    return x ** 2  # ~x^3",
    "<|im_start|>user\nHi there<|im_end|>\n<|endoftext|>",
    "<|im_start|> not <|im_ a control",
    "",
]


@pytest.mark.parametrize("text", VARIED)
def test_smollm2_tokenizer_equals_the_reference(smollm2, text):
    assert smollm2.ours.tokenizer.encode(text).ids == smollm2.their_tokenizer(text, add_special_tokens=False).input_ids
    assert smollm2.ours.tokenizer.decode(smollm2.ours.tokenizer.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("text", ["x²+y³ ½", "١٢٣ ٣٤", "Ⅻ ⅷ 12", "五 5 ５５"])
def test_smollm2_reads_every_unicode_digit_by_itself(smollm2, text):
    """The rule of SmolLM2's own tokenizer (llama.cpp's `smollm`): split at every \\p{N}, then by GPT-2's pattern.

    `transformers` forgets the first half when it reads a GGUF file, so the reference here is the rule itself, applied
    to pieces that its tokenizer then encodes one by one.
    """
    pieces = [piece for piece in regex.split(r"(\p{N})", text) if piece]
    wanted = [i for piece in pieces for i in smollm2.their_tokenizer(piece, add_special_tokens=False).input_ids]
    assert smollm2.ours.tokenizer.encode(text).ids == wanted


def test_the_tokenizer_alone_is_that_of_the_model(smollm2):
    assert load_smollm2_tokenizer().to_str() == smollm2.ours.tokenizer.to_str()
