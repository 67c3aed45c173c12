"""The tokenizer explorer shows the tokens of `BPETokenizer.encode`, for any text and any number of merges."""

import random

import pytest

from fmcourse.tokenizers import BPETokenizer

PAGE = "algorithm/data_preprocessing"
TEXTS = [
    "To be, or not to be: that is the question.",
    "I don't think they'll've   re-enter 2024 pass-words!!  \n\n  '",
    "你好，世界！春眠不觉晓，处处闻啼鸟。",
    "无法连接到设备，请重试。Home Assistant 3.0",
    "👩‍👩‍👧 😀🇨🇳 naïve cafe\u0301 ½ m² ١٢٣",
    "Введите имя пользователя и пароль.\tだめです。비밀번호",
    "\u00a0a\u3000b\u0085c\ufeffd\u200be  ",
    " ",
    "",
]


def merges_of(explorer, vocabulary):
    return [tuple(merge.split(" ")) for merge in explorer.state["merges"][vocabulary]]


def ids(explorer):
    return [int(i) for i in explorer.root.locator("[data-id]").evaluate_all("(es) => es.map((e) => e.dataset.id)")]


def assert_shows(explorer, text, merges):
    tokenizer = BPETokenizer(merges)
    wanted = tokenizer.encode(text)
    numbers = explorer.numbers()
    assert ids(explorer) == wanted
    assert numbers["tokens"] == len(wanted)
    assert numbers["characters"] == len(text)
    assert numbers["bytes"] == len(text.encode("utf-8", "surrogatepass"))
    assert numbers["tokens_per_character"] == pytest.approx(len(wanted) / len(text) if text else 0)


def type_text(explorer, text):
    """Put any text into the box, lone surrogates too, which the driver's own keyboard cannot carry."""
    units = list(text.encode("utf-16-le", "surrogatepass"))
    units = [low + 256 * high for low, high in zip(units[::2], units[1::2], strict=True)]
    explorer.control("text").evaluate(
        "(e, units) => { e.value = String.fromCharCode(...units); e.dispatchEvent(new Event('input')); }", units
    )


def test_starts_with_the_first_example_and_all_merges(figure):
    explorer = figure(PAGE, "tokenizer_explorer")
    state = explorer.state
    assert state["text"] == state["examples"][0]
    assert len(state["merges"]) == len(state["names"]) == 2
    assert_shows(explorer, state["text"], merges_of(explorer, 0))


@pytest.mark.parametrize("vocabulary", [0, 1])
def test_tokens_equal_pythons(figure, vocabulary):
    explorer = figure(PAGE, "tokenizer_explorer")
    merges = merges_of(explorer, vocabulary)
    explorer.set("vocabulary", vocabulary)
    for text in TEXTS:
        type_text(explorer, text)
        for n in (0, 1, 137, 800, len(merges)):
            explorer.set("n_merges", n)
            assert_shows(explorer, text, merges[:n])


def test_lone_surrogates_and_random_text_too(figure):
    explorer = figure(PAGE, "tokenizer_explorer")
    merges = merges_of(explorer, 1)
    explorer.set("vocabulary", 1)
    draw = random.Random(0)
    alphabet = " \n\t'sreab1.é你请设备の\ud83d\udc00😀\u0301\u00a0"
    for text in ["x\ud83d y\udc00\ud800z", *("".join(draw.choices(alphabet, k=25)) for _ in range(40))]:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")  # halves that meet are a pair
        type_text(explorer, text)
        assert_shows(explorer, text, merges)


def test_an_example_fills_the_box(figure):
    explorer = figure(PAGE, "tokenizer_explorer")
    explorer.set("example", 1)
    assert explorer.control("text").input_value() == explorer.state["examples"][1]
    assert_shows(explorer, explorer.state["examples"][1], merges_of(explorer, 0))


def test_keyboard_alone_types_and_moves_the_slider(figure):
    explorer = figure(PAGE, "tokenizer_explorer")
    explorer.press("text", "Control+a")
    explorer.page.keyboard.type("the connection")
    explorer.press("n_merges", "Home")
    assert explorer.shown("n_merges") == "0"
    assert explorer.numbers()["tokens"] == len("the connection")
    explorer.press("n_merges", "ArrowRight", times=3)
    assert explorer.shown("n_merges") == "3"
    assert_shows(explorer, "the connection", merges_of(explorer, 0)[:3])
    explorer.press("n_merges", "End")
    assert explorer.numbers()["tokens"] < len("the connection") / 2


def test_parts_of_a_character_and_invisible_ones_are_shown_as_what_they_are(figure):
    explorer = figure(PAGE, "tokenizer_explorer")
    explorer.set("n_merges", 0)
    type_text(explorer, "é \u200b"[:2])
    shown = explorer.root.locator(".fm-tokens li").all_inner_texts()
    assert shown == ["C3", "A9", "␣"]
    assert explorer.root.locator(".fm-partial").count() == 2


def test_nothing_typed_is_said_in_words(figure):
    explorer = figure(PAGE, "tokenizer_explorer")
    type_text(explorer, "")
    assert explorer.root.locator(".fm-tokens").inner_text() == explorer.state["labels"]["none"]
    assert explorer.numbers()["tokens_per_character"] == 0


def test_the_task_has_the_answer_that_the_page_gives(figure):
    explorer = figure(PAGE, "tokenizer_explorer")
    explorer.set("vocabulary", 1)
    characters = len(explorer.state["text"])
    merges = merges_of(explorer, 1)
    n = next(
        n for n in range(len(merges)) if len(BPETokenizer(merges[:n]).encode(explorer.state["text"])) <= characters
    )
    explorer.set("n_merges", n)
    assert explorer.numbers()["tokens"] <= characters
    explorer.set("n_merges", n - 1)
    assert explorer.numbers()["tokens"] > characters


def test_works_at_phone_width(figure):
    explorer = figure(PAGE, "tokenizer_explorer", width=360)
    type_text(explorer, "a" * 300)
    assert explorer.root.evaluate("(e) => e.scrollWidth <= e.clientWidth + 1")
