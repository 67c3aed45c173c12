"""The command line, run as a reader runs it: figures in files, errors in one line."""

import json
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch
from builders import config, small_data, small_training

from fmcourse import cli
from fmcourse.checkpoint import save_checkpoint
from fmcourse.data.registry import DATASETS, is_installed
from fmcourse.training import fit
from fmcourse.transformer import GPT


def fmcourse(*arguments, environment, cwd):
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "fmcourse", *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=300)


def refused(monkeypatch, capsys, *arguments):
    """The one line that the command ends with when it refuses, run in this process to save time."""
    monkeypatch.setattr(sys, "argv", ["fmcourse", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.run()
    captured = capsys.readouterr()
    line = end.value.code if isinstance(end.value.code, str) else captured.err
    assert end.value.code not in (0, None)
    assert "Traceback" not in line + captured.err
    assert "\n" not in line.strip()
    assert line.startswith("fmcourse: ")
    return line


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the checkpoints of a small model."""
    folder, data = tmp_path_factory.mktemp("trained"), small_data()
    torch.manual_seed(0)
    model = GPT(config(vocab_size=data.tokenizer.vocab_size))
    about = {"tokenizer": data.tokenizer.state()}
    fit(model, data, small_training(), device="cpu", folder=folder, about=about, progress=False)
    return folder


@pytest.mark.slow
def test_train_resume_and_generate_from_the_shell(tmp_path, subprocess_environment):
    common = {"environment": subprocess_environment, "cwd": tmp_path}
    options = ("train", "gpt", "--preset", "cpu", "--device", "cpu", "--steps", 2, "--folder", "runs", "--json")
    done = fmcourse(*options, "train.json", **common)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "train.json").read_text())
    wanted = {"val_loss", "seconds", "steps", "parameters", "tokens_per_second", "device", "versions"}
    assert wanted <= figures.keys()
    assert (figures["steps"], figures["device"]) == (2, "cpu")
    assert figures["parameters"] == pytest.approx(0.8e6, rel=0.05)
    assert 1.0 < figures["val_loss"] < 6.0
    assert {"python", "torch", "fmcourse"} <= figures["versions"].keys()
    assert "best validation loss" in done.stdout
    assert str(figures["parameters"])[:3] in done.stdout.replace(",", "")

    again = fmcourse(*options, "again.json", **common)  # finished: nothing more to do
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "again.json").read_text())["val_loss"] == figures["val_loss"]

    prompts = ("--prompt", "To be", "--prompt", "O ")
    made = fmcourse("generate", "--checkpoint", "runs", *prompts, "--tokens", 20, "--json", "g.json", **common)
    assert made.returncode == 0, made.stderr
    texts = json.loads((tmp_path / "g.json").read_text())["texts"]
    assert [len(text) for text in texts] == [25, 22]
    assert texts[0].startswith("To be")
    assert texts[1].startswith("O ")
    assert all(text in made.stdout for text in texts)


def test_doctor_reports_the_machine_and_the_data(tmp_path, subprocess_environment):
    done = fmcourse("doctor", "--json", "doctor.json", environment=subprocess_environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "doctor.json").read_text())
    assert figures["versions"]["torch"] == torch.__version__
    assert figures["data"] == dict.fromkeys(DATASETS, True)
    assert all(speed > 0 for speed in figures["matmul_gflops"].values())
    assert {"device", "precision", "preset", "threads"} <= figures.keys()
    for name in DATASETS:
        assert f"{name} (" in done.stdout
    assert torch.__version__ in done.stdout


def test_doctor_says_how_to_get_data_that_are_missing(monkeypatch, capsys):
    monkeypatch.setattr("fmcourse.data.registry.find_spec", lambda module: None)
    monkeypatch.setattr(cli, "_matmul_gflops", lambda dtype: 1.0)
    monkeypatch.setattr(sys, "argv", ["fmcourse", "doctor"])
    with pytest.raises(SystemExit) as end:
        cli.run()
    assert end.value.code in (0, None)
    lines = capsys.readouterr().out
    for card in DATASETS.values():
        assert (card.command in lines) == (card.module != "" or not is_installed(card.name))


def test_an_error_is_one_line_on_stderr_and_a_failing_exit_code(tmp_path, subprocess_environment):
    done = fmcourse("generate", "--checkpoint", "nowhere", environment=subprocess_environment, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "fmcourse: there is no checkpoint at nowhere\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "laptop"), "preset='laptop' is not known; choose one of 'cpu', 't4', 'gpu'"),
        (("--preset", "cpu", "--device", "tpu"), "device='tpu' is not known"),
        (("--preset", "cpu", "--device", "cpu", "--steps", "0"), "steps must be positive; got 0"),
        (("--preset", "cpu", "--device", "cpu", "--precision", "fp8"), "precision='fp8' is not known"),
        (("--preset", "cpu", "--device", "cpu", "--json", "no/such/folder/x.json"), "no/such/folder"),
    ],
)
def test_train_refuses_bad_options_before_it_trains(arguments, message, monkeypatch, capsys, tmp_path):
    def never(*_arguments, **_options):
        raise AssertionError("training began")

    monkeypatch.setattr("fmcourse.training.fit", never)
    monkeypatch.chdir(tmp_path)
    assert message in refused(monkeypatch, capsys, "train", "gpt", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--temperature", "-1"), "temperature must be 0 or more; got -1.0"),
        (("--top-p", "2"), "top_p must be in (0, 1]; got 2.0"),
        (("--top-k", "0"), "top_k must be 1 or more; got 0"),
        (("--tokens", "0"), "max_new_tokens must be 1 or more; got 0"),
        (("--prompt", "猫"), "character '猫' at position 0 is not in the alphabet of"),
        (("--prompt", ""), "every prompt needs at least one token"),
        (("--prompt", "a" * 99), "the longest prompt has 99 tokens; this model's context is 17"),
        (("--device", "cuda:99"), "device='cuda:99' is not on this machine"),
    ],
)
def test_generate_refuses_bad_options(arguments, message, trained, monkeypatch, capsys):
    prompt = () if "--prompt" in arguments else ("--prompt", "the cat")
    assert message in refused(monkeypatch, capsys, "generate", "--checkpoint", trained, *prompt, *arguments)


def test_generate_refuses_what_is_no_checkpoint_of_a_gpt(tmp_path, trained, monkeypatch, capsys):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((trained / "best.safetensors").read_bytes()[:5000])
    assert "cut.safetensors" in refused(monkeypatch, capsys, "generate", "--checkpoint", cut)
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, {"x": torch.zeros(2)}, {"step": 1})
    assert "other.safetensors" in refused(monkeypatch, capsys, "generate", "--checkpoint", other)
    assert "best.safetensors" in refused(monkeypatch, capsys, "generate", "--checkpoint", tmp_path)


def test_generate_takes_the_folder_or_the_file_and_repeats_itself(trained, monkeypatch, capsys):
    texts = []
    for path in (trained, trained / "best.safetensors"):
        monkeypatch.setattr(
            sys, "argv", ["fmcourse", "generate", "--checkpoint", str(path), "--prompt", "the ", "--tokens", "9"]
        )
        with pytest.raises(SystemExit) as end:
            cli.run()
        assert end.value.code in (0, None)
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert texts[0].startswith("the ")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("train", "--help"), ("doctor", "--help")])
def test_help_is_there_for_every_command(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fmcourse", *arguments])
    with pytest.raises(SystemExit):
        cli.run()
    captured = capsys.readouterr()
    assert "Usage:" in captured.out + captured.err
    if arguments in ((), ("--help",)):
        assert all(command in captured.out + captured.err for command in ("train", "generate", "doctor"))


def test_an_unknown_command_fails(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fmcourse", "fly"])
    with pytest.raises(SystemExit) as end:
        cli.run()
    assert end.value.code == 2
    assert "fly" in capsys.readouterr().err


def test_the_command_fmcourse_is_installed_and_is_this_one():
    (command,) = (entry for entry in entry_points(group="console_scripts") if entry.name == "fmcourse")
    assert command.load() is cli.run
    assert shutil.which("fmcourse", path=str(Path(sys.executable).parent))


def test_the_large_recipe_without_its_tokens_names_the_command_that_makes_them(tmp_path, subprocess_environment):
    done = fmcourse("train", "gpt2-124m", environment=subprocess_environment, cwd=tmp_path)
    assert done.returncode != 0
    assert "python -m fmcourse.data.fineweb" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_recipe_names_the_choices(tmp_path, subprocess_environment):
    done = fmcourse("train", "gpt5", environment=subprocess_environment, cwd=tmp_path)
    assert done.returncode != 0
    assert "recipe='gpt5' is not known; choose one of 'gpt', 'gpt2-124m'" in done.stderr


def test_a_dry_run_says_what_a_step_needs_and_trains_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["fmcourse", "train", "gpt2-124m", "--accumulate", "32", "--dry-run", "--json", "needs.json"]
    )
    with pytest.raises(SystemExit) as end:
        cli.run()
    assert end.value.code in (0, None)
    assert "124,439,808" in capsys.readouterr().out  # GPT-2, counted by everybody
    assert json.loads((tmp_path / "needs.json").read_text())["micro_batch"] == 16
    assert [file.name for file in tmp_path.iterdir()] == ["needs.json"]
