"""Generation: one token after the other, each drawn from the model's distribution. Taught in `practice/train_gpt`."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fmcourse.cache import KVCache
from fmcourse.checks import check_ids
from fmcourse.transformer import GPT


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise ValueError for options that no distribution can follow."""
    if not temperature >= 0:  # also refuses nan
        raise ValueError(f"temperature must be 0 or more; got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be 1 or more; got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1]; got {top_p}")


def next_token_probabilities(
    logits: Float[Tensor, "*b v"],
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Float[Tensor, "*b v"]:
    """The distribution that the next token is drawn from.

    Args:
        temperature: divides the logits; 0 puts everything on the likeliest token (greedy).
        top_k: keep the k likeliest tokens only.
        top_p: keep the smallest set of likeliest tokens whose probabilities (at that temperature, after top_k) reach p.

    Raises ValueError for a negative temperature, top_k under 1, or top_p outside (0, 1].

    Taught in `practice/train_gpt`. Source: Fan et al. 2018 (top-k); Holtzman et al. 2020, section 3.1 (top-p).
    """
    check_sampling(temperature, top_k, top_p)
    if temperature == 0:
        return torch.zeros_like(logits).scatter(-1, logits.argmax(dim=-1, keepdim=True), 1.0)
    ordered, ids = (logits / temperature).sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ordered[..., top_k:] = float("-inf")
    probabilities = ordered.softmax(dim=-1)
    if top_p is not None and top_p < 1:  # at 1 the sum may get there early, by rounding
        before = probabilities.cumsum(dim=-1) - probabilities  # what the likelier tokens already hold
        probabilities = probabilities.masked_fill(before >= top_p, 0.0)
        probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
    return torch.zeros_like(probabilities).scatter(-1, ids, probabilities)


def pad_left(prompts: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
    """Prompts of different lengths as one tensor, padded on the left, and what of it is real.

    Raises ValueError when there is no prompt, or an empty one.
    """
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise ValueError(f"every prompt needs at least one token; got lengths {[len(p) for p in prompts]}")
    width = max(map(len, prompts))
    tokens = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    real = torch.tensor([[False] * (width - len(prompt)) + [True] * len(prompt) for prompt in prompts])
    return tokens, real


@torch.inference_mode()
def generate(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: int | None = None,
    seed: int = 0,
    use_cache: bool = True,
) -> list[list[int]]:
    """Continue every prompt by up to `max_new_tokens` tokens; returns the new tokens alone.

    When the model's context is full, it goes on from the later half of what was read: cached or not, the same tokens.
    (The rows of a batch move together, when the longest is full.)

    Args:
        prompts: token ids, one list each; they may differ in length.
        temperature, top_k, top_p: as in `next_token_probabilities`; temperature 0 is greedy.
        stop: a sequence ends with this token (which is returned too).
        seed: of the draws.
        use_cache: keep keys and values of what was read, instead of reading it again for every token.

    Raises:
        ValueError: a prompt is empty or longer than the context, a token id is out of range, or an option is.

    Taught in `practice/train_gpt`; the cache in `practice/inference`.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be 1 or more; got {max_new_tokens}")
    check_sampling(temperature, top_k, top_p)
    config, device = model.config, next(model.parameters()).device
    tokens, real = pad_left(prompts)
    check_ids("token id", tokens, "vocab_size", config.vocab_size)
    if tokens.shape[1] > config.context:
        raise ValueError(f"the longest prompt has {tokens.shape[1]} tokens; this model's context is {config.context}")
    tokens, all_real = tokens.to(device), bool(real.all())
    real = real.to(device)
    generator = torch.Generator(device).manual_seed(seed)
    was_training, cache = model.training, None
    model.eval()
    new: list[Tensor] = []
    done = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    try:
        for _ in range(max_new_tokens):
            if tokens.shape[1] > config.context:
                keep = max(1, config.context // 2)
                tokens, real, cache = tokens[:, -keep:], real[:, -keep:], None
                all_real = bool(real.all())
            if use_cache and cache is None:
                cache = KVCache(config.n_layers, config.context)
            unread = tokens if cache is None else tokens[:, cache.length :]
            logits = model(unread, real=None if all_real else real, cache=cache)[:, -1].float()
            if temperature == 0:
                chosen = logits.argmax(dim=-1, keepdim=True)
            else:
                probabilities = next_token_probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
                chosen = torch.multinomial(probabilities, 1, generator=generator)
            new.append(chosen)
            if stop is not None:
                done |= chosen[:, 0] == stop
                if bool(done.all()):
                    break
            tokens = torch.cat([tokens, chosen], dim=1)
            if not all_real:
                real = torch.cat([real, torch.ones_like(real[:, :1])], dim=1)
    finally:
        model.train(was_training)
    rows = torch.cat(new, dim=1).tolist()
    return [row[: row.index(stop) + 1] if stop is not None and stop in row else row for row in rows]
