"""Published weights in our own modules: MiniLM and BERT, GPT-2, and the Llama family. Never from pickle.

Each `*_weights` function renames the tensors of a published checkpoint to ours; `bert_config` translates its sizes.
Taught in `concepts/architectures`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from fmcourse.checkpoint import load_weights
from fmcourse.checks import check_choice
from fmcourse.config import TransformerConfig
from fmcourse.data.registry import package_folder
from fmcourse.transformer import BERT, GPT

Weights = Mapping[str, Tensor]


# Published tensors that our models have no use for: buffers, and heads of other tasks.
_UNUSED = (
    "attn.bias",
    "attn.masked_bias",
    "position_ids",
    "rotary_emb.inv_freq",
    "seq_relationship.weight",
    "seq_relationship.bias",
    "pooler.dense.weight",
    "pooler.dense.bias",
    "predictions.decoder.bias",  # the same tensor as predictions.bias
)


def _rename(weights: Weights, names: Mapping[str, str], also_used: Sequence[str] = ()) -> dict[str, Tensor]:
    """Our name -> tensor, for the published names that are there.

    Raises ValueError when a published tensor has no place in our model: it must not be lost in silence.
    """
    used = {*names.values(), *also_used}
    left = sorted(name for name in weights if name not in used and not name.endswith(_UNUSED))
    if left:
        raise ValueError(f"weights hold tensors that have no place in our model: {', '.join(left[:3])}")
    return {ours: weights[theirs] for ours, theirs in names.items() if theirs in weights}


def _linear(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}


def bert_config(published: Mapping[str, Any]) -> TransformerConfig:
    """Our configuration for a `config.json` of the BERT family. Raises ValueError for an activation we do not have."""
    check_choice("hidden_act", published["hidden_act"], ("gelu",))
    return TransformerConfig(
        vocab_size=published["vocab_size"],
        context=published["max_position_embeddings"],
        d_model=published["hidden_size"],
        n_layers=published["num_hidden_layers"],
        n_heads=published["num_attention_heads"],
        d_ff=published["intermediate_size"],
        norm_eps=published["layer_norm_eps"],
        n_segments=published["type_vocab_size"],
        norm_first=False,
        embedding_norm=True,
        activation="gelu",
    )


def bert_weights(weights: Weights, n_layers: int) -> dict[str, Tensor]:
    """Tensors of `transformers`' BERT (with or without masked-language-model head) under the names of our `BERT`."""
    weights = {name.removeprefix("bert."): tensor for name, tensor in weights.items()}
    names = {
        "encoder.tokens.weight": "embeddings.word_embeddings.weight",
        "encoder.positions.weight": "embeddings.position_embeddings.weight",
        "encoder.segments.weight": "embeddings.token_type_embeddings.weight",
        "head.bias": "cls.predictions.bias",
        "head.weight": "cls.predictions.decoder.weight",
        **_linear("encoder.embedding_norm", "embeddings.LayerNorm"),
        **_linear("transform", "cls.predictions.transform.dense"),
        **_linear("transform_norm", "cls.predictions.transform.LayerNorm"),
    }
    for i in range(n_layers):
        block, layer = f"encoder.blocks.{i}", f"encoder.layer.{i}"
        for part in ("query", "key", "value"):
            names |= _linear(f"{block}.attention.{part}", f"{layer}.attention.self.{part}")
        names |= _linear(f"{block}.attention.out", f"{layer}.attention.output.dense")
        names |= _linear(f"{block}.attention_norm", f"{layer}.attention.output.LayerNorm")
        names |= _linear(f"{block}.feed_forward.up", f"{layer}.intermediate.dense")
        names |= _linear(f"{block}.feed_forward.down", f"{layer}.output.dense")
        names |= _linear(f"{block}.feed_forward_norm", f"{layer}.output.LayerNorm")
    return _rename(weights, names)


def gpt2_weights(weights: Weights, n_layers: int) -> dict[str, Tensor]:
    """Tensors of `transformers`' GPT-2 under the names of our `GPT`; its matrices are (in, out), ours (out, in)."""
    weights = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    names = {
        "decoder.tokens.weight": "wte.weight",
        "decoder.positions.weight": "wpe.weight",
        "head.weight": "lm_head.weight" if "lm_head.weight" in weights else "wte.weight",
        **_linear("decoder.norm", "ln_f"),
    }
    for i in range(n_layers):
        block = f"decoder.blocks.{i}"
        names |= _linear(f"{block}.attention.out", f"h.{i}.attn.c_proj")
        names |= _linear(f"{block}.attention_norm", f"h.{i}.ln_1")
        names |= _linear(f"{block}.feed_forward.up", f"h.{i}.mlp.c_fc")
        names |= _linear(f"{block}.feed_forward.down", f"h.{i}.mlp.c_proj")
        names |= _linear(f"{block}.feed_forward_norm", f"h.{i}.ln_2")
    fused = [f"h.{i}.attn.c_attn.{kind}" for i in range(n_layers) for kind in ("weight", "bias")]
    ours = _rename(weights, names, also_used=fused)
    for i in range(n_layers):
        for kind in ("weight", "bias"):
            parts = weights[f"h.{i}.attn.c_attn.{kind}"].chunk(3, dim=-1)
            for part, tensor in zip(("query", "key", "value"), parts, strict=True):
                ours[f"decoder.blocks.{i}.attention.{part}.{kind}"] = tensor
    matrices = ("query.weight", "key.weight", "value.weight", "out.weight", "up.weight", "down.weight")
    return {name: tensor.T if name.endswith(matrices) else tensor for name, tensor in ours.items()}


def llama_weights(weights: Weights, n_layers: int) -> dict[str, Tensor]:
    """Tensors of `transformers`' Llama renamed to those of our `GPT`; gate and up matrices become one."""
    weights = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
    names = {"decoder.tokens.weight": "embed_tokens.weight", "decoder.norm.weight": "norm.weight"}
    names["head.weight"] = "lm_head.weight" if "lm_head.weight" in weights else "embed_tokens.weight"
    for i in range(n_layers):
        block, layer = f"decoder.blocks.{i}", f"layers.{i}"
        for ours, theirs in {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "o_proj"}.items():
            names[f"{block}.attention.{ours}.weight"] = f"{layer}.self_attn.{theirs}.weight"
        names[f"{block}.attention_norm.weight"] = f"{layer}.input_layernorm.weight"
        names[f"{block}.feed_forward_norm.weight"] = f"{layer}.post_attention_layernorm.weight"
        names[f"{block}.feed_forward.down.weight"] = f"{layer}.mlp.down_proj.weight"
    fused = [f"layers.{i}.mlp.{part}_proj.weight" for i in range(n_layers) for part in ("gate", "up")]
    ours_weights = _rename(weights, names, also_used=fused)
    for i in range(n_layers):
        gate_up = [weights[f"layers.{i}.mlp.{name}_proj.weight"] for name in ("gate", "up")]
        ours_weights[f"decoder.blocks.{i}.feed_forward.up.weight"] = torch.cat(gate_up)
    return ours_weights


@dataclass(frozen=True)
class SentenceEncoder:
    """A pretrained encoder and its tokenizer: texts to vectors whose dot product is their similarity.

    Args:
        model: our `BERT`.
        tokenizer: of the `tokenizers` library, lower-casing word pieces.
        max_length: longer texts are cut to so many tokens, the closing one included, as the model was trained.

    Taught in `concepts/what_is_a_foundation_model`. Source: Reimers & Gurevych 2019; Wang et al. 2020 (MiniLM).
    """

    model: BERT
    tokenizer: Tokenizer
    max_length: int

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], *, batch_size: int = 32) -> Float[Tensor, "n m"]:
        """Unit vectors of the texts: the mean of their token vectors, normalised. Texts of like length run together."""
        if not texts:
            raise ValueError("texts is empty; give at least one")
        device = self.model.head.weight.device
        self.tokenizer.enable_truncation(self.max_length)
        encodings = self.tokenizer.encode_batch(list(texts))
        order = sorted(range(len(texts)), key=lambda i: len(encodings[i].ids))
        vectors: list[Tensor] = []
        for start in range(0, len(order), batch_size):
            ids = [encodings[i].ids for i in order[start : start + batch_size]]
            width = max(map(len, ids))
            tokens = torch.tensor([row + [0] * (width - len(row)) for row in ids], device=device)
            real = torch.tensor([[j < len(row) for j in range(width)] for row in ids], device=device)
            hidden = self.model.hidden(tokens, real=real)
            vectors.append((hidden * real[..., None]).sum(dim=1) / real.sum(dim=1, keepdim=True))
        back = torch.tensor(sorted(range(len(order)), key=order.__getitem__), device=device)
        return F.normalize(torch.cat(vectors), dim=-1)[back]


def load_minilm(folder: Path | None = None) -> SentenceEncoder:
    """The sentence encoder all-MiniLM-L6-v2, from its installed package or a folder of the same layout.

    Raises MissingDataError when the package is not installed. Taught in `concepts/what_is_a_foundation_model`.
    """
    folder = package_folder("minilm") / "model" if folder is None else folder
    config = bert_config(json.loads((folder / "config.json").read_text()))
    model = BERT(config).eval()
    encoder = {
        name.removeprefix("encoder."): tensor
        for name, tensor in bert_weights(load_file(folder / "model.safetensors"), config.n_layers).items()
    }
    load_weights(model.encoder, encoder, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    max_length = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    return SentenceEncoder(model, tokenizer, max_length)


@dataclass(frozen=True)
class ChatModel:
    """A pretrained language model, its tokenizer (with `encode(text).ids` and `decode(ids)`) and its end-of-text id."""

    model: GPT
    tokenizer: Tokenizer
    end: int


def load_smollm2(file: Path | None = None) -> ChatModel:
    """SmolLM2-135M-Instruct, a Llama-style model, unpacked from the 4-bit file of its installed package to float32.

    Raises MissingDataError when the package is not installed, ModuleNotFoundError when `gguf` (which reads it) is not.

    Taught in `practice/alignment`. Source: Allal et al. 2025 (SmolLM2).
    """
    file = _smollm2_file(file)
    reader, field = _open_gguf(file)
    from gguf.quants import dequantize

    config = TransformerConfig(
        vocab_size=field("llama.vocab_size"),
        context=field("llama.context_length"),
        d_model=field("llama.embedding_length"),
        n_layers=field("llama.block_count"),
        n_heads=field("llama.attention.head_count"),
        n_kv_heads=field("llama.attention.head_count_kv"),
        d_ff=field("llama.feed_forward_length"),
        position="rotary",
        rope_base=field("llama.rope.freq_base"),
        norm="rms",
        norm_eps=field("llama.attention.layer_norm_rms_epsilon"),
        activation="swiglu",
        bias=False,
    )
    heads = {"attn_q": config.n_heads, "attn_k": config.n_kv_heads}
    parts = {
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    outer = {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}
    weights = {}
    for tensor in reader.tensors:
        values = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
        if tensor.name in outer:
            weights[outer[tensor.name]] = values
            continue
        _, layer, part, kind = tensor.name.split(".")
        if part in heads:  # this format stores rotary pairs side by side; we keep the halves apart
            values = rearrange(values, "(h pair two) m -> (h two pair) m", h=heads[part], two=2)
        weights[f"layers.{layer}.{parts[part]}.{kind}"] = values
    model = GPT(config)
    load_weights(model, llama_weights(weights, config.n_layers), file)
    return ChatModel(model.eval(), _gguf_tokenizer(field), field("tokenizer.ggml.eos_token_id"))


def load_smollm2_tokenizer(file: Path | None = None) -> Tokenizer:
    """The tokenizer of SmolLM2 alone, in a second or two, without its weights.

    Raises what `load_smollm2` raises. Taught in `algorithm/data_preprocessing`.
    """
    return _gguf_tokenizer(_open_gguf(_smollm2_file(file))[1])


def _smollm2_file(file: Path | None) -> Path:
    return package_folder("smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf" if file is None else file


def _open_gguf(file: Path) -> tuple[Any, Callable[[str], Any]]:
    """A reader of the file, and a function that gives a field of its header."""
    try:
        from gguf import GGUFReader
    except ModuleNotFoundError:
        message = "the file of SmolLM2 is read with `gguf`; install it with: pip install gguf"
        raise ModuleNotFoundError(message) from None
    reader = GGUFReader(file)
    return reader, lambda name: reader.fields[name].contents()


def _gguf_tokenizer(field: Any) -> Tokenizer:
    """Byte-level BPE from the vocabulary and merges that a GGUF file carries, digits one by one (SmolLM's rule)."""
    pieces, kinds = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ", 1)) for merge in field("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [piece for piece, kind in zip(pieces, kinds, strict=True) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in control])
    return tokenizer
