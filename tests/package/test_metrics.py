"""The scores are those of sacreBLEU's own command line, of worked examples, and of counts by hand."""

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest

from fmcourse.metrics import bleu, chrf, rouge

OUTPUTS = ["the cat sat on the mat today", "there is a file", "open the menu Format - Cells", "press Enter now please"]
REFERENCES = ["the cat sat on a mat today", "there is one file", "choose Format - Cells", "press Enter now please"]
CHINESE = (["打开菜单并选择单元格", "按回车键"], ["打开菜单选择单元格", "请按回车键"])


def by_command(outputs, references, folder, *options):
    """What sacreBLEU's command says."""
    (folder / "out").write_text("\n".join(outputs), encoding="utf-8")
    (folder / "ref").write_text("\n".join(references), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", folder / "ref", "-i", folder / "out", "-w", "6", *options]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return (found[0] if isinstance(found, list) else found)["score"]


def test_bleu_and_chrf_are_those_of_sacrebleus_command(tmp_path):
    assert bleu(OUTPUTS, REFERENCES).value == pytest.approx(by_command(OUTPUTS, REFERENCES, tmp_path), abs=1e-5)
    assert chrf(OUTPUTS, REFERENCES).value == pytest.approx(
        by_command(OUTPUTS, REFERENCES, tmp_path, "-m", "chrf"), abs=1e-5
    )


def test_chinese_is_cut_into_characters(tmp_path):
    score = bleu(*CHINESE, tokenize="zh")
    assert score.value == pytest.approx(by_command(*CHINESE, tmp_path, "-tok", "zh"), abs=1e-5)
    assert "tok:zh" in score.signature
    assert score.value > bleu(*CHINESE).value + 10  # as single words hardly anything agrees


def test_the_signature_names_library_and_tokenisation():
    assert "tok:13a" in bleu(OUTPUTS, REFERENCES).signature
    assert "version:" in str(chrf(OUTPUTS, REFERENCES))


def f1(one, other):
    """Harmonic mean of the shares of shared items, counted by hand."""
    shared = sum((Counter(one) & Counter(other)).values())
    return 2 * shared / (len(one) + len(other))


def test_rouge_counts_shared_words_and_word_pairs():
    for output, reference in zip(OUTPUTS, REFERENCES, strict=True):
        a, b = (text.lower().replace("-", " ").split() for text in (output, reference))
        found = rouge([output], [reference])
        assert found["rouge1"] == pytest.approx(100 * f1(a, b))
        assert found["rouge2"] == pytest.approx(100 * f1(list(pairwise(a)), list(pairwise(b))))


def test_rouge_l_follows_the_order_of_words():
    """The scores of the example in Lin 2004, section 3, with words that have stems of their own."""
    police = "police killed the gunman"
    assert rouge(["police kill the gunman"], [police])["rouge2"] > 0  # stemmed: kill is killed
    assert rouge(["police ended the gunman"], [police])["rougeL"] == pytest.approx(75)
    assert rouge(["the gunman murdered police"], [police])["rougeL"] == pytest.approx(50)


def test_scores_are_of_the_whole_set_and_do_not_depend_on_its_order():
    order = [2, 0, 3, 1]
    for score in (lambda a, b: bleu(a, b).value, lambda a, b: chrf(a, b).value, lambda a, b: rouge(a, b)["rougeL"]):
        shuffled = score([OUTPUTS[i] for i in order], [REFERENCES[i] for i in order])
        assert shuffled == pytest.approx(score(OUTPUTS, REFERENCES))
        assert score(REFERENCES, REFERENCES) == pytest.approx(100)


@pytest.mark.parametrize("score", [bleu, chrf, rouge])
def test_bad_input_is_named(score):
    with pytest.raises(ValueError, match="2 outputs and 1 references"):
        score(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="outputs is empty"):
        score([], [])
    with pytest.raises(ValueError, match="lists of texts"):
        score("a cat", ["a cat"])
    if score is bleu:
        with pytest.raises(ValueError, match="tokenize"):
            score(["a"], ["a"], tokenize="german")
