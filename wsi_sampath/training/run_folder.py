"""The folder of a training: one run at a time, and only ever one training, by its identity.

Two runs with the same identity produce the same weights, so one may resume the other.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from wsi_sampath.data.patches import PatchSet, write_atomically
from wsi_sampath.errors import Reason, UsageError, WsiError
from wsi_sampath.files import replacing
from wsi_sampath.models.origin import CLAIMS
from wsi_sampath.shown import shortened
from wsi_sampath.training.initial_weights import AnyStart
from wsi_sampath.training.settings import RunSettings, deciding

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class RunFolder:
    """Where the files of a training are."""

    root: Path

    @property
    def identity(self) -> Path:
        """What decides the weights; written first."""
        return self.root / "training.json"

    @property
    def last(self) -> Path:
        """State after the last epoch, to resume from."""
        return self.root / "last.ckpt"

    @property
    def model(self) -> Path:
        """The trained model."""
        return self.root / "model.safetensors"

    @property
    def result(self) -> Path:
        """The outcome; written last."""
        return self.root / "result.json"

    @property
    def holds_weights(self) -> bool:
        """Whether there is something to resume, or to keep."""
        return self.last.is_file() or self.model.is_file()

    @property
    def is_complete(self) -> bool:
        """Whether the training is finished."""
        return self.result.is_file() and self.model.is_file()


def is_first_process() -> bool:
    """Return whether this is the first process of a training on several devices, or the only one.

    It starts the others; it alone holds the folder and prints.
    """
    return os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def held(folder: RunFolder) -> Iterator[None]:
    """Hold the folder against other runs, and translate errors of the disk.

    Raises
    ------
    WsiError
        ``busy`` if another run holds it; ``disk-full``; ``bad-input`` if it cannot be written.
    """
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
        if not is_first_process():
            yield
            return
        with FileLock(folder.root / ".lock", timeout=0):
            yield
    except Timeout:
        message = "another training is writing here; wait for it, or take another out="
        raise WsiError("busy", message, subject=str(folder.root)) from None
    except OSError as error:
        reason: Reason = "disk-full" if error.errno in _FULL else "bad-input"
        subject = str(error.filename or folder.root)
        raise WsiError(reason, f"cannot be used: {error.strerror}", subject=subject) from error


def begin(folder: RunFolder, identity: Mapping[str, Any]) -> None:
    """Record what decides the weights, or check it against what the folder was begun with.

    A folder without checkpoint or model holds nothing to resume, and is begun anew.

    Raises
    ------
    UsageError
        If the folder holds another training; names what differs.
    """
    ours = json.loads(json.dumps(identity))
    if not (folder.identity.is_file() and folder.holds_weights):
        if is_first_process():
            write_json(folder.identity, ours)
        return
    begun = read_json(folder.identity)
    differing = sorted(_differing(begun, ours))
    if differing:
        raise UsageError(
            f"holds another training ({'; '.join(differing[:3])}); take another out=, or delete "
            "the folder",
            subject=str(folder.root),
        )


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write values as JSON, atomically."""
    text = json.dumps(values, ensure_ascii=False, indent=2, allow_nan=False)
    write_atomically(path, f"{text}\n".encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote.

    Raises
    ------
    WsiError
        ``bad-input`` if it is not a JSON object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WsiError("bad-input", f"cannot be read: {error}", subject=str(path)) from error
    if not isinstance(values, dict):
        raise WsiError("bad-input", "is not a JSON object", subject=str(path))
    return values


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Save the state of a training, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as growing:
        torch.save(dict(state), growing)


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` saved, tensors on the CPU; no code in it is run.

    Raises
    ------
    WsiError
        ``bad-model`` if it is damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        message = f"is damaged ({' '.join(str(error).split())[:80]}); delete it to start again"
        raise WsiError("bad-model", message, subject=str(path)) from error
    return state


def identity_of(settings: RunSettings, patches: PatchSet, start: AnyStart) -> dict[str, Any]:
    """Return all that decides the weights, as plain JSON values.

    Names of folders are left out, in the model's claims too: the content of files counts, not where
    they are.
    """
    return {
        "settings": deciding(settings),
        "model": start.model.spec.model_dump(mode="json", exclude=set(CLAIMS)),
        "data_sha256": data_sha256(patches),
        "start": start.digests or "random",
    }


def data_sha256(patches: PatchSet) -> str:
    """Return a hexadecimal digest of the patches for training and validation.

    It notices every change of ``classes.yaml``, ``patches.csv`` and the files of labels, and an
    image with another size in bytes or another name. It misses an image replaced by one of exactly
    as many bytes (such as pixels edited in an uncompressed file): noticing that would mean reading
    all images before every start. Patches of the test split decide nothing and are left out.
    """
    digest = hashlib.sha256()
    for name in ("classes.yaml", "patches.csv"):
        _add(digest, (patches.root / name).read_bytes())
    for patch in (*patches.split("train"), *patches.split("validation")):
        for image in patches.image_paths(patch.img_id):
            _add(digest, f"{image.name} {image.stat().st_size}".encode())
        for layer in patches.layers:
            _add(digest, patches.label_path(layer, patch.img_id).read_bytes())
    return digest.hexdigest()


def _add(digest: hashlib._Hash, content: bytes) -> None:
    """Add content and its length, so that no two lists of contents look alike."""
    digest.update(len(content).to_bytes(8, "little"))
    digest.update(content)


def _differing(begun: Mapping[str, Any], ours: Mapping[str, Any], under: str = "") -> Iterator[str]:
    for name in begun.keys() | ours.keys():
        old, new = begun.get(name), ours.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differing(old, new, f"{under}{name}.")
        elif old != new:
            key = f"{under}{name}".removeprefix("settings.")
            what, is_digest = key.removesuffix("_sha256"), key.endswith("_sha256")
            yield f"other {what}" if is_digest else f"{key} was {_short(old)}, now {_short(new)}"


def _short(value: Any) -> str:
    return shortened(json.dumps(value, ensure_ascii=False))
