"""How fast is cached generation beside `transformers`' `generate`: same weights, one prompt, 256 new tokens?"""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.common import Row, medians
from fmcourse.checkpoint import load_weights
from fmcourse.generation import generate
from fmcourse.pretrained import gpt2_weights
from fmcourse.transformer import GPT, TransformerConfig

NEW = 256


def measure(repeats: int = 5) -> list[Row]:
    """Compare a 4 x 128 GPT-2, greedy; both must write the same text (wide weights, so that no two logits tie)."""
    torch.manual_seed(0)
    peer = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=65,
            n_positions=320,
            n_embd=128,
            n_layer=4,
            n_head=4,
            initializer_range=0.3,
            bos_token_id=None,
            eos_token_id=None,
        )
    ).eval()
    ours = GPT(TransformerConfig(vocab_size=65, context=320)).eval()
    load_weights(ours, gpt2_weights(peer.state_dict(), 4), "transformers")
    prompt = list(range(16))
    tokens = torch.tensor([prompt])
    everything = torch.ones_like(tokens)  # else `generate` takes token 0 for padding

    def our_text() -> list[int]:
        return generate(ours, [prompt], max_new_tokens=NEW, temperature=0)[0]

    def peer_text() -> list[int]:
        out = peer.generate(tokens, attention_mask=everything, max_new_tokens=NEW, do_sample=False, pad_token_id=0)
        return out[0, len(prompt) :].tolist()

    if our_text() != peer_text():
        raise RuntimeError("the two did not write the same text, so their speeds cannot be compared")
    seconds = medians({"ours": our_text, "peer": peer_text}, repeats=repeats, warmup=1)
    speed = {name: NEW / value for name, value in seconds.items()}
    ratio = speed["ours"] / speed["peer"]
    return [
        Row(
            "cached greedy generation, 4 x 128, batch 1, 256 tokens",
            f"{speed['ours']:,.0f} tokens/s",
            f"{speed['peer']:,.0f} tokens/s",
            ratio,
            ">= 2",
        )
    ]
