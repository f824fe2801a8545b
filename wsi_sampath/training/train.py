"""A whole training: from settings to one self-describing checkpoint; killed, it resumes."""

from __future__ import annotations

import json
import logging
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger

from wsi_sampath.data.patches import PatchSet, open_patches
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.models.checkpoints import file_sha256, save_checkpoint
from wsi_sampath.models.limits import MAX_TEXT
from wsi_sampath.models.origin import STEPS, VALIDATED
from wsi_sampath.models.patho_sam.network import PathoSam
from wsi_sampath.models.sam_path.network import SamPath
from wsi_sampath.models.wsi_sam.network import WsiSam
from wsi_sampath.training.base_task import Score, Task
from wsi_sampath.training.callbacks import (
    Curve,
    Patience,
    Pictures,
    WholeFiles,
    best_keeper,
    keeper,
    spread_out,
)
from wsi_sampath.training.configuration import AnySettings
from wsi_sampath.training.data_module import DTYPES, PatchData
from wsi_sampath.training.devices import accelerator_of, check_hardware, strategy_of
from wsi_sampath.training.kinds import Training, training_of
from wsi_sampath.training.live import Bar, Lines
from wsi_sampath.training.outcome import LAST, Trained
from wsi_sampath.training.run_folder import (
    RunFolder,
    begin,
    held,
    identity_of,
    is_first_process,
    load_state,
    read_json,
    write_json,
)
from wsi_sampath.training.settings import RunSettings, TrainSettings
from wsi_sampath.training.start_report import Doubt, Work, empty_validation, opening_lines

Say = Callable[[str], None]
_PRECISIONS = {"fp32": "32-true", "fp16": "16-mixed", "bf16": "bf16-mixed"}


def train(settings: AnySettings, say: Say = print) -> Trained:
    """Train, resume a training, or return what a finished one left.

    Parameters
    ----------
    settings
        Everything that decides the training.
    say
        Called with lines of progress.

    Returns
    -------
    Trained
        In ``OUT`` lie ``model.safetensors``, ``result.json``, ``curve.csv``, ``pictures``,
        ``tensorboard``, ``training.json``, ``best.ckpt`` and ``last.ckpt``.

    Raises
    ------
    WsiError
        For data, weights or folders that cannot be used; ``out-of-memory``; ``busy``.
    """
    if not is_first_process():
        say = _silent
    patches = open_patches(settings.data)
    _check_data(patches)
    check_hardware(settings)
    folder = RunFolder(Path(settings.out))
    with held(folder), _quiet():
        training = training_of(settings, patches)
        identity = identity_of(settings, patches, training.start)
        begin(folder, identity)
        new = not folder.is_complete
        if new:
            _run(training, patches, folder, identity, say)
        result = read_json(folder.result)
        return Trained(folder.model, result, training.score, patches, new)


def _run(
    training: Training,
    patches: PatchSet,
    folder: RunFolder,
    identity: Mapping[str, Any],
    say: Say,
) -> None:
    settings, start = training.settings, training.start
    seed_everything(settings.seed, verbose=False)
    doubts = _credited(training)
    data = PatchData(settings, training.reader())
    task = training.task(data.steps_per_epoch)
    trainer = _trainer(settings, folder, data, task.score, say)
    device = trainer.strategy.root_device
    work = _work(task, data.steps_per_epoch, device)
    for line in opening_lines(settings, patches, start, work, training.scale()):
        say(line)
    for line in (*(doubt.line for doubt in doubts), *empty_validation(settings, patches)):
        say(line)
    training.cache(data, task, device, folder.root / "features", say)
    resumed = folder.last if folder.last.is_file() else None
    if resumed is not None:
        epoch = load_state(resumed)["epoch"] + 1
        say(f"{folder.root}: resumes after epoch {epoch}")
    fit(trainer, task, data, resumed, can_accumulate=isinstance(settings, TrainSettings))
    if trainer.is_global_zero:
        _finish(training, task, trainer, folder, identity)
    trainer.strategy.barrier()


def _credited(training: Training) -> list[Doubt]:
    """Return what is doubtful, once the model says so of itself."""
    model, doubts = training.start.model, training.doubts()
    for doubt in doubts:
        credit = f"{model.spec.training_data}; {doubt.credit}"
        model.spec = model.spec.model_copy(update={"training_data": credit})
    return doubts


def _work(task: Task, steps: int, device: torch.device) -> Work:
    weights = [(one.numel(), one.requires_grad) for one in task.model.parameters()]
    trained = sum(count for count, learns in weights if learns)
    named = f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device
    return Work(steps, str(named), trained, sum(count for count, _ in weights))


def _silent(_line: str) -> None:
    """Print nothing: one process speaks for all."""


def fit(
    trainer: Trainer, task: Task, data: PatchData, resumed: Path | None, *, can_accumulate: bool
) -> None:
    """Train, from the state in `resumed` if there is one.

    Raises
    ------
    WsiError
        ``out-of-memory``, with what helps against it.
    KeyboardInterrupt
        Where the user interrupted, once everything is put away.
    """
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(task, datamodule=data, ckpt_path=resumed)
    except torch.OutOfMemoryError:
        raised = " (and raise accumulate)" if can_accumulate else ""
        advice = f"lower batch_size{raised}, or set precision=bf16"
        message = f"the batch does not fit on the device; {advice}"
        raise WsiError("out-of-memory", message) from None
    except SystemExit:
        # Lightning's answer to an interrupt, once it has put everything away and is deaf to others.
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from None


def _finish(
    training: Training,
    task: Task,
    trainer: Trainer,
    folder: RunFolder,
    identity: Mapping[str, Any],
) -> None:
    settings, start, best = training.settings, training.start, best_keeper(trainer)
    chosen = folder.last if best is None else Path(best.best_model_path)
    state = load_state(chosen)
    task.on_load_checkpoint(state)
    task.load_state_dict(state["state_dict"])
    score = None if best is None else best.best_model_score
    result: dict[str, Any] = {
        "kept": "last epoch" if best is None else f"best {task.score.title}",
        "epoch": state["epoch"] + 1,
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        task.score.stored: None if score is None else float(score),
        f"{LAST}{task.score.stored}": _last_score(trainer, task.score),
        VALIDATED: _last_score(trainer, task.score) is not None,
        "training": dict(identity),
    }
    if start.steps is not None:
        result[STEPS] = start.steps + trainer.global_step
    if settings.description is None:
        _describe(start.model, f"; epoch {result['epoch']} of {settings.epochs}")
    dtype = DTYPES[settings.store]
    save_checkpoint(
        start.model, folder.model, dtype=dtype, provenance=json.dumps(result, ensure_ascii=False)
    )
    write_json(folder.result, {**result, "weights_sha256": file_sha256(folder.model)})


def _last_score(trainer: Trainer, score: Score) -> float | None:
    """Return the score of the last epoch that was validated, None where there is none."""
    curve = next(one for one in trainer.callbacks if isinstance(one, Curve))  # type: ignore[attr-defined]
    known = curve.scores(score)
    return known[max(known)] if known else None


def _describe(model: SamPath | PathoSam | WsiSam, more: str) -> None:
    """Add to what a model says of itself."""
    description = f"{model.spec.description[: MAX_TEXT - len(more)]}{more}"
    model.spec = model.spec.model_copy(update={"description": description})


def _trainer(
    settings: RunSettings, folder: RunFolder, data: PatchData, score: Score, say: Say
) -> Trainer:
    accelerator, devices = accelerator_of(settings)
    terminal = sys.stderr.isatty()
    return Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy=strategy_of(settings),
        precision=_PRECISIONS[settings.precision],  # type: ignore[arg-type]
        max_epochs=settings.epochs,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.gradient_clip,
        # At least once: without any score there would be no best epoch.
        check_val_every_n_epoch=min(settings.validate_every, settings.epochs),
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        deterministic=settings.deterministic,
        plugins=[WholeFiles()],
        callbacks=_callbacks(settings, folder, data, score, say, terminal=terminal),
        logger=TensorBoardLogger(folder.root, name="tensorboard", version=""),
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder.root,
    )


def _callbacks(
    settings: RunSettings,
    folder: RunFolder,
    data: PatchData,
    score: Score,
    say: Say,
    *,
    terminal: bool,
) -> list[Callback]:
    validation = data.validation
    shown = spread_out(validation, settings.pictures) if validation else []
    curve = Curve(folder.root / "curve.csv")
    found: list[Callback] = [
        curve,
        Lines(say, curve, steps=not terminal),
        Pictures(folder.root / "pictures", data.read, shown),
    ]
    if terminal:
        found.append(Bar())
    if settings.patience is not None and validation:
        found.append(Patience(settings.patience, score))
    if validation and not settings.keeps_last:
        found.append(keeper(folder, "best", score))
    found.append(keeper(folder, "last", None))
    return found


def _check_data(patches: PatchSet) -> None:
    if not patches.split("train"):
        message = "has no training patches (fold above 0 in patches.csv)"
        raise UsageError(message, subject=str(patches.root))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advertisements and hints off the terminal."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
