"""The fill-in explorer shows the guesses that were computed in Python, follows the chosen word, works by keyboard."""

import pytest

FIGURE = ("practice/train_bert", "fill_in_explorer")


def assert_shows(explorer, sentence, place):
    state, shown = explorer.state, explorer.numbers()
    guesses, truths = state["guesses"][sentence][str(place)], state["truths"][sentence][str(place)]
    for reader in range(len(state["readers"])):
        for rank, (_, p) in enumerate(guesses[reader]):
            assert shown[f"p[{reader},{rank}]"] == pytest.approx(p, abs=1e-9)
        assert shown[f"truth[{reader}]"] == pytest.approx(truths[reader][0], abs=1e-9)
        assert shown[f"rank[{reader}]"] == truths[reader][1]
    word = state["sentences"][sentence][place].removeprefix("##")
    assert explorer.root.locator(".fm-whole strong").inner_text() == word
    pressed = explorer.root.locator('.fm-words button[aria-pressed="true"]')
    assert pressed.get_attribute("data-place") == str(place)
    assert word not in pressed.inner_text()


def test_every_sentence_starts_at_a_word_and_shows_its_guesses(figure):
    explorer = figure(*FIGURE)
    assert_shows(explorer, explorer.state["sentence"], explorer.state["place"])
    for sentence in range(1, len(explorer.state["sentences"])):
        explorer.set("sentence", sentence)
        assert_shows(explorer, sentence, min(map(int, explorer.state["guesses"][sentence])))


def test_a_click_hides_another_word(figure):
    explorer = figure(*FIGURE)
    for place in sorted(map(int, explorer.state["guesses"][0]))[:4]:
        explorer.root.locator(f'.fm-words button[data-place="{place}"]').click()
        assert_shows(explorer, 0, place)


def test_the_keyboard_alone_hides_a_word(figure):
    explorer = figure(*FIGURE)
    first, second = sorted(map(int, explorer.state["guesses"][0]))[:2]
    explorer.root.locator(f'.fm-words button[data-place="{first}"]').focus()
    explorer.page.keyboard.press("Tab")
    explorer.page.keyboard.press("Enter")
    assert_shows(explorer, 0, second)


def test_probabilities_are_in_order_and_a_tick_marks_the_true_word(figure):
    explorer = figure(*FIGURE)
    ticks = 0
    for sentence, by_place in enumerate(explorer.state["guesses"]):
        for rows in by_place.values():
            for row in rows:
                assert [p for _, p in row] == sorted((p for _, p in row), reverse=True)
        place = explorer.state["place"]  # of the first sentence, which is shown already
        if sentence != explorer.state["sentence"]:
            explorer.set("sentence", sentence)
            place = min(map(int, by_place))
        word = explorer.state["sentences"][sentence][place]
        known = sum(word == text for row in by_place[str(place)] for text, _ in row)
        ticks += known
        assert explorer.root.locator(".fm-panels text", has_text="✓").count() == known
    assert ticks > 0


def test_a_figure_without_matching_sizes_is_refused():
    from fmcourse.widgets.fill_in_explorer import FillInExplorer

    right = {"readers": ["a"], "sentences": [["x", "y"]], "guesses": [{1: [[("y", 0.5)]]}], "truths": [{1: [(0.5, 1)]}]}
    assert FillInExplorer(**right).place == 1
    for wrong in ({"readers": ["a", "b"]}, {"sentences": []}, {"guesses": [{2: [[("y", 0.5)]]}]}, {"truths": [{}]}):
        with pytest.raises(ValueError, match="must be|every place needs"):
            FillInExplorer(**{**right, **wrong})
