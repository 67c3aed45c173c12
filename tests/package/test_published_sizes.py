"""Published sizes: the closed form, our modules and `transformers` agree to the last parameter (on the meta device)."""

import json

import pytest
import torch
import transformers
from builders import ROOT
from torch import nn

from benchmarks.minilm_reference import reference
from fmcourse.transformer import BERT, GPT, Seq2Seq, TransformerConfig, count_parameters
from fmcourse.widgets.architecture_calculator import PRESETS, ArchitectureCalculator, count_parts, parts_of


def theirs(name: str) -> nn.Module:
    """The model of `transformers` with the sizes of the preset."""
    size = PRESETS[name]
    d, layers, heads = size["d_model"], size["n_layers"], size["n_heads"]
    common = {"hidden_size": d, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": 4 * d}
    match size["family"]:
        case "encoder":
            sizes = {"vocab_size": size["vocab_size"], "max_position_embeddings": size["context"]}
            return transformers.BertModel(transformers.BertConfig(**common, **sizes))
        case "decoder":
            sizes = {"vocab_size": size["vocab_size"], "n_positions": size["context"]}
            return transformers.GPT2LMHeadModel(
                transformers.GPT2Config(n_embd=d, n_layer=layers, n_head=heads, **sizes)
            )
        case "encoder-decoder":
            return transformers.T5ForConditionalGeneration(
                transformers.T5Config(
                    vocab_size=size["vocab_size"],
                    d_model=d,
                    d_ff=4 * d,
                    d_kv=d // heads,
                    num_layers=layers,
                    num_heads=heads,
                )
            )
        case _:
            sizes = {"image_size": size["image"], "patch_size": size["patch"], "num_labels": 1000}
            return transformers.ViTForImageClassification(transformers.ViTConfig(**common, **sizes))


@pytest.mark.parametrize("name", PRESETS)
def test_closed_form_equals_transformers_and_what_was_published(name):
    with torch.device("meta"):
        counted = theirs(name).num_parameters()
    total = sum(parts_of(PRESETS[name]).values())
    assert total == counted
    if name == "T5-large":  # the paper's 770 million is this and the embedding table once more
        total += 32_128 * 1024
    assert total == pytest.approx(PRESETS[name]["published"], rel=0.02)  # published counts are rounded


def test_the_exact_counts_that_the_chapter_names():
    exact = {
        "BERT-base": 109_482_240,
        "GPT-2 small": 124_439_808,
        "T5-base": 222_903_552,
        "ViT-B/16": 86_567_656,
        "GPT-3": 174_604_259_328,
    }
    assert {name: sum(parts_of(PRESETS[name]).values()) for name in exact} == exact


@pytest.mark.parametrize("sizes", [(3, 24, 6, 40, 23, 17), (1, 10, 5, 7, 11, 13)])
def test_closed_form_equals_our_modules_for_odd_sizes(sizes):
    layers, d, heads, d_ff, v, context = sizes
    shape = {"n_layers": layers, "d_model": d, "n_heads": heads, "d_ff": d_ff, "vocab_size": v, "context": context}
    gpt = GPT(TransformerConfig(**shape))
    assert sum(count_parts("decoder", **shape).values()) == count_parameters(gpt)
    bert = BERT(TransformerConfig(**shape, norm_first=False, embedding_norm=True, n_segments=2))
    own = count_parameters(bert.encoder) + count_parameters(nn.Linear(d, d))
    assert sum(count_parts("encoder", **shape).values()) == own
    t5 = Seq2Seq(TransformerConfig(**shape, norm="rms", bias=False, position="none"))
    distances = 2 * 32 * heads
    assert sum(count_parts("encoder-decoder", **shape).values()) == count_parameters(t5) + distances


def test_parts_are_the_modules_of_that_name():
    gpt = GPT(TransformerConfig(vocab_size=23, context=17, d_model=24, n_layers=3, n_heads=6, d_ff=40))
    parts = count_parts("decoder", n_layers=3, d_model=24, n_heads=6, d_ff=40, vocab_size=23, context=17)
    blocks = gpt.decoder.blocks
    assert parts["attention"] == sum(count_parameters(block.attention) for block in blocks)
    assert parts["feed_forward"] == sum(count_parameters(block.feed_forward) for block in blocks)
    assert parts["norms"] == sum(p.numel() for name, p in gpt.named_parameters() if "norm" in name)
    assert parts["embeddings"] == gpt.decoder.tokens.weight.numel() + gpt.decoder.positions.weight.numel()


def test_an_unknown_family_or_model_is_refused():
    with pytest.raises(ValueError, match="family='vit'"):
        count_parts("vit", n_layers=1, d_model=8, n_heads=1, d_ff=8)
    with pytest.raises(Exception, match="preset='GPT-5' is not among"):
        ArchitectureCalculator("GPT-5")


def test_the_calculator_starts_from_a_published_model_or_leaves_it():
    published = ArchitectureCalculator("ViT-B/16")
    assert (published.preset, sum(published.parts().values())) == ("ViT-B/16", 86_567_656)
    changed = ArchitectureCalculator("ViT-B/16", patch=32)
    assert (changed.preset, changed.patch, changed.d_model) == ("", 32, 768)


def test_the_committed_minilm_reference_is_what_transformers_computes():
    table = json.loads((ROOT / "fmcourse" / "results" / "minilm_reference.json").read_text(encoding="utf-8"))
    now = torch.tensor(reference(table["sentences"]), dtype=torch.float64)
    assert (now - torch.tensor(table["vectors"], dtype=torch.float64)).abs().max() < 1e-7
