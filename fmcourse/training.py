"""Training: one loop for every model of the book, on a CPU, one GPU or several, that can be killed and resumed exactly.

Taught in `practice/train_gpt`.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from fmcourse.checkpoint import CheckpointError, load_checkpoint, load_weights, save_checkpoint
from fmcourse.checks import check_choice, check_positive
from fmcourse.data.batch import IGNORE, Batch, DataSource
from fmcourse.device import Precision, autocast, pick_device, pick_precision
from fmcourse.history import History
from fmcourse.optim import Schedule, make_optimizers, schedule_factor, set_learning_rate


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train. The optimiser's and the schedule's names are those of `fmcourse.optim`.

    Args:
        steps: optimiser steps.
        batch_size: examples per step, over all devices and micro-batches.
        accumulate: micro-batches per step; the gradient is that of the whole batch.
        clip: largest norm of the gradient.
        precision: "auto" is what the device does best (`fmcourse.device.pick_precision`).
        compile: run the model through torch.compile.
        eval_every: steps between evaluations; each also saves a checkpoint.
        eval_examples: validation examples looked at each time (all when None).
        seed: of everything random inside the loop (dropout).
    """

    steps: int
    batch_size: int
    accumulate: int = 1
    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = 1e-3
    matrix_lr: float = 0.02
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    schedule: Schedule = "cosine"
    warmup: int = 0
    cooldown: float = 0.4
    floor: float = 0.1
    clip: float = 1.0
    label_smoothing: float = 0.0
    precision: Precision = "auto"
    compile: bool = False
    eval_every: int = 100
    eval_examples: int | None = 512
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "lr", "matrix_lr", "clip", "eval_every"):
            check_positive(name, getattr(self, name))
        if self.eval_examples is not None:
            check_positive("eval_examples", self.eval_examples)
        for name in ("warmup", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more; got {getattr(self, name)}")
        for name in ("cooldown", "floor"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1]; got {getattr(self, name)}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1); got {self.label_smoothing}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate={self.accumulate} must divide batch_size={self.batch_size}")
        check_choice("optimizer", self.optimizer, ("adamw", "muon"))
        check_choice("schedule", self.schedule, Schedule)
        check_choice("precision", self.precision, Precision)

    def optimizers(self, model: nn.Module) -> list[torch.optim.Optimizer]:
        """The optimisers that these settings ask for, over the model's parameters."""
        return make_optimizers(
            model,
            name=self.optimizer,
            lr=self.lr,
            matrix_lr=self.matrix_lr,
            betas=self.betas,
            weight_decay=self.weight_decay,
        )


class World(NamedTuple):
    """This process among those that `torchrun` started."""

    rank: int
    size: int
    local_rank: int

    @classmethod
    def join(cls, device: torch.device) -> "World":
        """Read torchrun's environment and meet the other processes (NCCL on GPUs, gloo elsewhere)."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls(0, 1, 0)
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if device.type == "cuda":
            torch.cuda.set_device(local_rank)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), size, local_rank)

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size > 1:
            dist.all_reduce(value)
        return value


def summed_loss(model: nn.Module, batch: Batch, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy in nats, summed over the targets that count."""
    logits = model(**batch.inputs)
    return F.cross_entropy(
        logits.flatten(0, -2).float(),
        batch.targets.flatten(),
        ignore_index=IGNORE,
        reduction="sum",
        label_smoothing=label_smoothing,
    )


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterator[Batch],
    *,
    device: torch.device | None = None,
    precision: Precision = "fp32",
    world: World | None = None,
) -> float:
    """Mean cross-entropy in nats per target; the processes of `world` share the batches.

    Raises ValueError when the batches hold no target. Taught in `practice/train_gpt`.
    """
    device = next(model.parameters()).device if device is None else device
    world = World(0, 1, 0) if world is None else world
    was_training = model.training
    model.eval()
    total = torch.zeros(2, dtype=torch.float64, device=None if device.type == "mps" else device)
    try:
        for i, batch in enumerate(batches):
            if i % world.size == world.rank:
                with autocast(device, precision):
                    total[0] += summed_loss(model, batch.to(device)).to(total)
                total[1] += int((batch.targets != IGNORE).sum())
    finally:
        model.train(was_training)
    loss, count = world.sum(total).tolist()
    if not count:
        raise ValueError("batches hold no target to score")
    return loss / count


class _Run:
    """The state of one training run: everything that a checkpoint must hold to go on as if nothing had happened."""

    def __init__(self, model: nn.Module, config: TrainConfig, device: torch.device, about: dict[str, Any]) -> None:
        self.model, self.config, self.device, self.about = model, config, device, about
        self.optimizers = config.optimizers(model)
        self.precision = pick_precision(device, config.precision)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "fp16")
        self.step, self.best, self.seconds, self.history = 0, math.inf, 0.0, History()

    def describe(self) -> dict[str, Any]:
        config = asdict(self.config)
        model_config = getattr(self.model, "config", None)
        own = {
            "train_config": {**config, "betas": list(config["betas"])},
            "model": type(self.model).__name__,
            "model_config": asdict(model_config) if model_config is not None else None,
            "step": self.step,
            "best": self.best if math.isfinite(self.best) else None,
            "seconds": self.seconds,
            "history": self.history.rows,
            "scaler": self.scaler.state_dict(),
        }
        if clash := sorted(own.keys() & self.about.keys()):
            raise ValueError(f"about must not hold {', '.join(clash)}: the run stores its own under that name")
        return {**own, **self.about}

    def save(self, path: Path, *, with_optimizer: bool) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        if with_optimizer:
            for k, optimizer in enumerate(self.optimizers):
                for i, state in optimizer.state_dict()["state"].items():
                    tensors |= {f"optimizer.{k}.{i}.{name}": torch.as_tensor(value) for name, value in state.items()}
        save_checkpoint(path, tensors, self.describe())

    def restore(self, path: Path) -> None:
        tensors, about = load_checkpoint(path)
        own = self.describe()
        for key in ("model", "model_config", "train_config"):
            if own[key] != about[key]:
                both = (own[key], about[key]) if isinstance(own[key], dict) else ({key: own[key]}, {key: about[key]})
                name = next(n for n in both[0] | both[1] if both[0].get(n) != both[1].get(n))
                raise CheckpointError(
                    f"{path} was made with {name}={both[1].get(name)!r}, this run has {name}={both[0].get(name)!r}; "
                    "go on with the same configuration, choose another folder, or pass resume=False to start again"
                )
        load_weights(
            self.model,
            {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")},
            path,
        )
        for k, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                if name.startswith(f"optimizer.{k}."):
                    _, _, i, field = name.split(".", 3)
                    state.setdefault(int(i), {})[field] = tensor
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        self.scaler.load_state_dict(about["scaler"])
        self.step, self.seconds, self.history = about["step"], about["seconds"], History(about["history"])
        self.best = math.inf if about["best"] is None else about["best"]


def fit(
    model: nn.Module,
    data: DataSource,
    config: TrainConfig,
    *,
    device: str | torch.device | None = None,
    folder: str | Path | None = None,
    resume: bool = True,
    about: dict[str, Any] | None = None,
    progress: bool = True,
    on_evaluation: Callable[[dict[str, float]], None] | None = None,
) -> History:
    """Train the model in place and return the history of its losses.

    Started by `torchrun`, every process takes its share of each batch; gradients and result are those of one process
    with the whole batch.

    Args:
        device: None picks the best one here.
        folder: keeps `last.safetensors` (everything, to resume) and `best.safetensors` (weights with the lowest
            validation loss). None keeps nothing.
        resume: go on from the folder's last checkpoint, bit for bit as if never interrupted.
        about: JSON values to store in the checkpoints (the tokenizer, say).
        progress: show a progress bar.
        on_evaluation: called with each new row of the history.

    Raises:
        ValueError: the batch cannot be shared evenly among micro-batches and processes.
        CheckpointError: the folder's checkpoint is damaged or of another configuration, or cannot be written.
        FloatingPointError: the loss is no longer a number.
    """
    chosen = pick_device(str(device) if device is not None else None)
    world = World.join(chosen)
    if chosen.type == "cuda" and world.size > 1:
        chosen = torch.device("cuda", world.local_rank)
    shares = config.accumulate * world.size
    if config.batch_size % shares:
        raise ValueError(
            f"batch_size={config.batch_size} must be divisible by accumulate={config.accumulate} times the "
            f"{world.size} processes"
        )
    run = _Run(model.to(chosen), config, chosen, about or {})
    run.describe()  # refuses a bad `about` before any work is done
    last = Path(folder) / "last.safetensors" if folder is not None else None
    if last is not None and resume and last.exists():
        run.restore(last)
    forward: nn.Module = torch.compile(model) if config.compile else model  # type: ignore[assignment]
    net = DistributedDataParallel(forward, broadcast_buffers=False) if world.size > 1 else forward
    params = [p for p in model.parameters() if p.requires_grad]
    size = config.batch_size // shares
    model.train()
    bar = tqdm(total=config.steps, initial=run.step, disable=not progress or world.rank > 0, unit="step", leave=False)
    recent, since, tokens, clock = torch.zeros((), device=chosen), run.step, 0, time.perf_counter()
    while run.step < config.steps:
        # Dropout depends on seed, step and process alone, so a resumed run draws what the whole one would have.
        torch.manual_seed((config.seed * 1_000_003 + run.step) * 1_009 + world.rank)
        factor = schedule_factor(
            run.step,
            config.steps,
            schedule=config.schedule,
            warmup=config.warmup,
            cooldown=config.cooldown,
            floor=config.floor,
        )
        set_learning_rate(run.optimizers, factor)
        batch = data.batch(run.step, config.batch_size)
        if len(batch) != config.batch_size:
            raise ValueError(f"data.batch gave {len(batch)} examples; batch_size={config.batch_size} were asked for")
        count = int((batch.targets != IGNORE).sum())
        if not count:
            raise ValueError(f"the batch of step {run.step} holds no target")
        for micro in range(config.accumulate):
            first = (micro * world.size + world.rank) * size
            part = batch[first : first + size].to(chosen)
            wait = net.no_sync() if world.size > 1 and micro < config.accumulate - 1 else nullcontext()  # type: ignore[operator]
            with wait:
                with autocast(chosen, run.precision):
                    # DDP averages over processes; times world.size makes a sum of it: the whole batch's mean.
                    loss = summed_loss(net, part, config.label_smoothing) * (world.size / count)
                run.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            recent += loss.detach() / world.size
        for optimizer in run.optimizers:
            run.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(params, config.clip)
        # With fp16 a step that overflowed is left out, by all optimisers alike; the scaler then lowers its scale.
        if run.precision != "fp16" or bool(torch.isfinite(norm)):
            for optimizer in run.optimizers:
                run.scaler.step(optimizer)
        for optimizer in run.optimizers:
            optimizer.zero_grad(set_to_none=True)
        run.scaler.update()
        run.step += 1
        tokens += count
        bar.update()
        if run.step % config.eval_every == 0 or run.step == config.steps:
            train_loss = float(world.sum(recent)) / (run.step - since)
            spent = time.perf_counter() - clock
            run.seconds += spent
            if not math.isfinite(train_loss):
                raise FloatingPointError(
                    f"the training loss is {train_loss} at step {run.step}; try a learning rate below lr={config.lr}"
                )
            validation = data.validation(size, config.eval_examples)
            row = {
                "step": run.step,
                "train_loss": train_loss,
                "val_loss": evaluate(forward, validation, device=chosen, precision=run.precision, world=world),
                "learning_rate": config.lr * factor,
                "tokens_per_second": tokens / spent,
                "seconds": run.seconds,
            }
            run.history.rows.append(row)
            val_loss = row["val_loss"]
            bar.set_postfix_str(f"loss {train_loss:.3f}, validation {val_loss:.3f}, {tokens / spent:,.0f} tokens/s")
            improved, run.best = val_loss < run.best, min(val_loss, run.best)
            if last is not None and world.rank == 0:
                if improved:
                    run.save(last.with_name("best.safetensors"), with_optimizer=False)
                run.save(last, with_optimizer=True)
            if on_evaluation is not None and world.rank == 0:
                on_evaluation(row)
            recent, since, tokens, clock = torch.zeros((), device=chosen), run.step, 0, time.perf_counter()
    bar.close()
    return run.history
