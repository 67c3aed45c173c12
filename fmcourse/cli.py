"""The command line: `fmcourse train | generate | check | grade | package-gradescope | doctor`.

Taught in `practice/train_gpt`.
"""

import json
import os
import platform
import sys
import time
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

from fmcourse import __version__

app = typer.Typer(help="Train, run and check the models of the fmcourse textbook.", no_args_is_help=True)

PACKAGES = ("torch", "numpy", "einops", "safetensors", "tokenizers", "matplotlib", "anywidget")
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")]


@app.callback()
def _main() -> None:
    """Expected errors (bad input, damaged files) become one line on stderr; see `run`."""


def run() -> None:
    """Entry point: like `app()`, but an expected error is one clear line instead of a traceback."""
    try:
        app()
    except (ValueError, RuntimeError, OSError, ModuleNotFoundError, FloatingPointError) as error:
        sys.exit(f"fmcourse: {error}")
    except KeyboardInterrupt:
        sys.exit("fmcourse: interrupted; the same command goes on from the last checkpoint")


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of what it stands on."""
    found = {"python": platform.python_version(), "fmcourse": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    if found["torch"] != "missing":
        import torch

        found["torch"] = torch.__version__  # unlike its metadata, it always names the build (+cpu, +cu130)
    return found


Exercise = Annotated[str, typer.Option(help="Which exercise, for example attention.")]
SeedFile = Annotated[Path, typer.Option(help="A file with a secret text; hidden inputs are drawn from it.")]


@app.command()
def check(
    notebook: Annotated[Path, typer.Argument(help="Your notebook.")],
    exercise: Exercise,
) -> None:
    """Check a notebook of your own here and now: feedback for practice, never a mark. Not for other people's code."""
    from fmcourse.exercises import load
    from fmcourse.grading.practice import practise

    chosen = load(exercise)
    _must_exist(notebook)
    session, feedback = practise(notebook, chosen)
    for one in (one for one in feedback if not one.passed):
        typer.echo(f"{one!r}\n")
    typer.echo(repr(session.progress()))
    if session.progress().points < chosen.points:
        raise typer.Exit(1)


@app.command()
def grade(
    folder: Annotated[Path, typer.Argument(help="Submissions: <student>.ipynb, or a folder for each student.")],
    exercise: Exercise,
    seed_file: SeedFile,
    out: Annotated[Path, typer.Option(help="Where grades, feedback and report are written.")],
    jobs: Annotated[int, typer.Option(help="Submissions at the same time.")] = 1,
    resume: Annotated[bool, typer.Option(help="Go on where an interrupted run stopped.")] = False,
    shard: Annotated[
        str | None, typer.Option(help="Only every n-th submission from the i-th, as i/n: 0/20, 1/20, ... 19/20.")
    ] = None,
) -> None:
    """Grade a class: untrusted code runs in a sandbox (bubblewrap), and a judge outside compares its numbers."""
    from fmcourse.exercises import load
    from fmcourse.grading.grader import grade_class
    from fmcourse.grading.report import total

    _must_exist(folder, seed_file)
    chosen, seed = load(exercise), seed_file.read_text(encoding="utf-8")
    part = None
    if shard is not None:
        numbers = shard.split("/")
        if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
            raise ValueError(f"--shard {shard}: write it as i/n, for example 0/20")
        part = (int(numbers[0]), int(numbers[1]))
    graded = grade_class(folder, chosen, seed, out, jobs=jobs, resume=resume, shard=part)
    if part is not None:
        typer.echo(f"{len(graded)} submissions of shard {shard} graded; `--resume` without `--shard` writes the report")
        return
    mean = sum(total(marks) for marks, _ in graded.values()) / len(graded)
    typer.echo(f"{len(graded)} submissions graded, {mean:.1f} of {chosen.points} points on average")
    typer.echo(f"grades in {out / 'grades.csv'}, report in {out / 'report.html'}, feedback in {out / 'feedback'}")


@app.command()
def package_gradescope(
    exercise: Annotated[str, typer.Argument(help="Which exercise, for example attention.")],
    seed_file: SeedFile,
    out: Annotated[Path | None, typer.Option(help="The zip to write; by default <exercise>-autograder.zip.")] = None,
) -> None:
    """Make an autograder for Gradescope: a zip with the judge, the seed and the pinned environment."""
    from fmcourse.exercises import load
    from fmcourse.grading.gradescope import package

    _must_exist(seed_file)
    file = out or Path(f"{exercise}-autograder.zip")
    _check_folder("--out", file)
    package(load(exercise), seed_file.read_text(encoding="utf-8"), file)
    typer.echo(f"{file}: upload it as the autograder of an assignment. It holds your seed: keep it to yourself")


def _must_exist(*paths: Path) -> None:
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path} does not exist")


def _check_folder(option: str, file: Path | None) -> None:
    """Refuse a file that could not be written, before the work and not after it."""
    if file is not None and not file.parent.is_dir():
        raise ValueError(f"{option} {file}: there is no folder {file.parent}")


def _write(file: Path | None, figures: dict[str, Any]) -> None:
    if file is not None:
        file.write_text(json.dumps(figures, indent=2) + "\n")


@app.command()
def train(
    name: Annotated[str, typer.Argument(metavar="RECIPE", help="gpt, translation, ...; a wrong name lists them.")],
    preset: Annotated[str | None, typer.Option(help="cpu, t4 or gpu; by default what suits this machine.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where checkpoints are kept; by default runs/RECIPE.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or mps; by default the best here.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps, instead of the recipe's.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16, instead of the recipe's.")] = None,
    seed: Annotated[int, typer.Option(help="Of the weights and the order of the data.")] = 0,
    accumulate: Annotated[
        int | None, typer.Option(help="Micro-batches per step, instead of the recipe's: more need less memory.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the folder's last checkpoint.")] = True,
    dry_run: Annotated[bool, typer.Option(help="Only say what a step needs: parameters, memory, arithmetic.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Train a model with a recipe of the book; run it under torchrun for several GPUs."""
    import torch

    from fmcourse.device import setup
    from fmcourse.recipes import recipe_for
    from fmcourse.training import fit
    from fmcourse.transformer import count_parameters

    _check_folder("--json", json_file)
    chosen, size = setup(preset, device=device, seed=seed)  # type: ignore[arg-type]
    recipe = recipe_for(name, size)
    changes: dict[str, Any] = {"seed": seed, "steps": steps, "precision": precision, "accumulate": accumulate}
    config = replace(recipe.train, **{key: value for key, value in changes.items() if value is not None})
    if dry_run:
        from fmcourse.dry_run import dry_run as look

        needs = look(replace(recipe, train=config), n_processes=int(os.environ.get("WORLD_SIZE", "1")))
        typer.echo(f"{name}, {size} preset\n{needs}")
        _write(json_file, asdict(needs))
        return
    folder = folder or Path("runs") / name
    model_config, data, tokenizer = recipe.load(seed=seed)
    model = recipe.build(model_config)
    parameters = count_parameters(model)
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started, one speaks
    if first:
        typer.echo(f"{size} preset: {parameters:,} parameters, {config.steps} steps on {chosen}; {recipe.expect}")
    started = time.perf_counter()
    history = fit(
        model, data, config, device=chosen, folder=folder, resume=resume, about={"tokenizer": tokenizer.state()}
    )
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if not first:
        return
    typer.echo(str(history))
    typer.echo(f"best validation loss {history.best:.4f}; weights in {folder / 'best.safetensors'}")
    last = history.rows[-1]
    figures = {
        "val_loss": last["val_loss"],
        "best_val_loss": history.best,
        "seconds": last["seconds"],
        "wall_seconds": time.perf_counter() - started,
        "steps": int(last["step"]),
        "parameters": parameters,
        "tokens_per_second": last["tokens_per_second"],
        "device": str(chosen),
        "preset": size,
        "versions": versions(),
    }
    _write(json_file, figures)


@app.command()
def generate(
    prompt: Annotated[list[str] | None, typer.Option(help="Text to continue; repeat for several.")] = None,
    checkpoint: Annotated[Path, typer.Option(help="A checkpoint, or the folder of one.")] = Path("runs/gpt"),
    tokens: Annotated[int, typer.Option(help="How many tokens to add.")] = 300,
    temperature: Annotated[float, typer.Option(help="0 is greedy; lower is safer, higher is bolder.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Draw from the k likeliest tokens only.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the likeliest tokens that hold this probability.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or mps.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Continue one or several prompts with a trained GPT."""
    from fmcourse.checkpoint import CheckpointError, load_checkpoint, load_weights
    from fmcourse.config import TransformerConfig
    from fmcourse.device import pick_device
    from fmcourse.generation import generate as continue_prompts
    from fmcourse.tokenizers import from_state
    from fmcourse.transformer import GPT

    _check_folder("--json", json_file)
    file = checkpoint / "best.safetensors" if checkpoint.is_dir() else checkpoint
    tensors, about = load_checkpoint(file)
    for key in ("model_config", "tokenizer"):
        if not about.get(key):
            raise CheckpointError(f"{file} holds no {key}: it is not a checkpoint of `fmcourse train`")
    model = GPT(TransformerConfig(**about["model_config"]))
    weights = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
    load_weights(model, weights, file)
    model.to(pick_device(device))
    tokenizer = from_state(about["tokenizer"])
    prompts = prompt or ["\n"]
    started = time.perf_counter()
    continued = continue_prompts(
        model,
        [tokenizer.encode(text) for text in prompts],
        max_new_tokens=tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
    )
    seconds = time.perf_counter() - started
    texts = [text + tokenizer.decode(ids) for text, ids in zip(prompts, continued, strict=True)]
    typer.echo("\n\n".join(texts))
    _write(json_file, {"texts": texts, "seconds": seconds, "tokens_per_second": len(prompts) * tokens / seconds})


@app.command()
def doctor(json_file: JsonFile = None) -> None:
    """Say what this machine has: device, number format, speed, versions, and which data are here or how to get them."""
    import torch

    from fmcourse.data import DATASETS
    from fmcourse.data.registry import is_installed
    from fmcourse.device import pick_device, pick_precision, setup

    _check_folder("--json", json_file)
    chosen, size = setup()
    speed = {name: round(_matmul_gflops(name), 1) for name in ("float32", "bfloat16")}
    name = torch.cuda.get_device_name() if chosen.type == "cuda" else platform.processor() or platform.machine()
    figures = {
        "device": str(pick_device()),
        "name": name,
        "preset": size,
        "precision": pick_precision(chosen),
        "threads": torch.get_num_threads(),
        "matmul_gflops": speed,
        "versions": versions(),
        "data": {key: is_installed(key) for key in DATASETS},
    }
    typer.echo(f"device     {figures['device']} ({name}), preset {size}, precision {figures['precision']}")
    typer.echo("speed      " + ", ".join(f"{dtype} {value:,.0f} GFLOP/s" for dtype, value in speed.items()))
    typer.echo("versions   " + ", ".join(f"{package} {number}" for package, number in versions().items()))
    for key, card in DATASETS.items():
        here = "here" if is_installed(key) else f"missing; get it with: {card.command}"
        typer.echo(f"data       {key} ({card.task}): {here}")
    _write(json_file, figures)


def _matmul_gflops(dtype: str, n: int = 1024, repeats: int = 20) -> float:
    """Speed of multiplying two n by n matrices, in 10^9 floating-point operations per second."""
    import torch

    from fmcourse.device import pick_device

    device = pick_device()
    a = torch.randn(n, n, device=device).to(getattr(torch, dtype))
    for _ in range(3):
        b = a @ a
    b.sum().item()
    started = time.perf_counter()
    for _ in range(repeats):
        b = a @ a
    b.sum().item()  # waits until a GPU has finished
    return repeats * 2 * n**3 / (time.perf_counter() - started) / 1e9
