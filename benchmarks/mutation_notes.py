"""What `benchmarks.mutation` cannot find by rule: mistakes that people make, and why some changes change nothing."""

# module, name, what stands in the module (exactly once), what the mistake makes of it
BY_HAND = [
    ("masks", "causal mask sees one ahead", ".tril(s - t)", ".tril(s - t + 1)"),
    ("masks", "causal mask hides the token itself", ".tril(s - t)", ".tril(s - t - 1)"),
    ("masks", "causal mask forgets the cache", ".tril(s - t)", ".tril()"),
    ("attention", "scale forgotten", " / query.shape[-1] ** 0.5", ""),
    ("attention", "scale without the root", "query.shape[-1] ** 0.5", "query.shape[-1]"),
    ("attention", "softmax over queries", "scores.softmax(dim=-1)", "scores.softmax(dim=-2)"),
    (
        "attention",
        "heads cut in the other order",
        '"b t (h d) -> b h t d", d=self.d_head)\n        if',
        '"b t (d h) -> b h t d", d=self.d_head)\n        if',
    ),
    ("attention", "heads merged in the other order", '"b h t d -> b t (h d)"', '"b h t d -> b t (d h)"'),
    ("attention", "key heads repeated in the wrong order", "b (k g) s d", "b (g k) s d"),
    ("attention", "dropout also in evaluation", "self.dropout if self.training else 0.0", "self.dropout"),
    ("attention", "dropout forgotten", "self.dropout if self.training else 0.0", "0.0"),
    (
        "attention",
        "values rotated too",
        "query, key = rotate(query), rotate(key)",
        "query, key, value = rotate(query), rotate(key), rotate(value)",
    ),
    ("attention", "only queries rotated", "query, key = rotate(query), rotate(key)", "query = rotate(query)"),
    ("attention", "cross-attention asks itself", "source = x if memory is None else memory", "source = x"),
    (
        "attention",
        "bias forgets the mask",
        'mask if may_attend is None else mask.masked_fill(~may_attend, float("-inf"))',
        "mask",
    ),
    ("positions", "sines and cosines exchanged", "[angle.sin(), angle.cos()]", "[angle.cos(), angle.sin()]"),
    ("positions", "neighbours rotated as pairs", "x.roll(x.shape[-1] // 2, dims=-1)", "x.roll(1, dims=-1)"),
    ("positions", "angles in single precision", "dtype=torch.float64) / d_head", "dtype=torch.float32) / d_head"),
    ("layers", "residual forgotten", "total = x + ", "total = "),
    ("layers", "norm after instead of before", "sublayer(norm(x) if self.norm_first else x)", "norm(sublayer(x))"),
    (
        "layers",
        "dropout after sublayers forgotten",
        "(F.dropout(said, self.dropout) if self.training else said)",
        "said",
    ),
    ("layers", "memory not masked", "may_attend=memory_may_attend, cache=other", "cache=other"),
    ("initialise", "residual scale forgotten", " / math.sqrt(2 * config.n_layers)", ""),
    ("transformer", "positions start again with a cache", "key_places[..., start:]", "key_places[..., :t]"),
    ("transformer", "padding counted as places", "(real.cumsum(dim=1) - 1).clamp(min=0)", "key_places"),
    ("transformer", "final norm forgotten", "x if self.norm is None else self.norm(x)", "x"),
    ("transformer", "dropout after the embedding forgotten", "F.dropout(x, self.config.dropout, self.training)", "x"),
    (
        "transformer",
        "dropout after the embedding in evaluation",
        "F.dropout(x, self.config.dropout, self.training)",
        "F.dropout(x, self.config.dropout, True)",
    ),
]

# (module, the line after the change): why no test can notice it
CAT = "cos, sin = torch.cat([angle.cos()] * 2, dim={}), torch.cat([-angle.sin(), angle.sin()], dim={})"
LAST = "the table of angles has two axes, so axis 1 is the last one"
EQUIVALENT = {
    ("positions", CAT.format("1", "-1")): LAST,
    ("positions", CAT.format("-1", "1")): LAST,
    ("layers", "if (self.cross_attention is not None or self.cross_attention_norm is not None):"): (
        "the constructor makes both or neither, so 'and' and 'or' say the same; both are asked for the type checker"
    ),
    ("cache", "self.keys = self.values = torch.empty(1)"): (
        "a placeholder of any size: the first append replaces it before anybody reads it"
    ),
    (
        "masks",
        "given in (1, wanted) for given, wanted in zip(reversed(may_attend.shape), reversed(shape))",
    ): "strict=False is what zip does anyway; it is written out for the linter and for the reader",
}
