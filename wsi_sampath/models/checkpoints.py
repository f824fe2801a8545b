"""One file a model: weights as safetensors, the specification in its header."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from wsi_sampath.errors import WsiError
from wsi_sampath.models.sam_path import SamPath
from wsi_sampath.models.spec import ModelSpec

HEADER_KEY = "wsi_sampath"
PROVENANCE_KEY = "wsi_sampath_provenance"
_KEYS_SHOWN = 3
_BLOCK_BYTES = 1 << 20
_LENGTH_BYTES = 8
_HEADER_UNIT = 8


def build_model(spec: ModelSpec) -> SamPath:
    """Return the network of `spec` with random weights, in evaluation mode."""
    return SamPath(spec).eval()


def save_checkpoint(
    model: SamPath,
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float16,
    provenance: str = "",
) -> Path:
    """Write weights and specification to one ``.safetensors`` file, atomically.

    Equal content makes equal bytes.

    Parameters
    ----------
    model
        The network; its `spec` goes into the header.
    path
        Where to; replaced if it exists.
    dtype
        Of the stored floating-point tensors: float16 or float32.
    provenance
        How the weights came about, as JSON; kept in the header under `PROVENANCE_KEY`.

    Returns
    -------
    Path
        `path`.
    """
    path = Path(path)
    tensors = {name: _stored(tensor, dtype) for name, tensor in model.state_dict().items()}
    part = path.with_name(path.name + ".partial")
    # Not save_file, whose files nobody but their owner may read.
    header = {HEADER_KEY: model.spec.to_json(), "format": "pt"}
    if provenance:
        header[PROVENANCE_KEY] = provenance
    with part.open("wb") as file:
        file.writelines(_in_order(save(tensors, metadata=header)))
    os.replace(part, path)
    return path


def load_checkpoint(path: str | Path) -> SamPath:
    """Read a model written by `save_checkpoint`.

    Returns
    -------
    SamPath
        On the CPU, float32, in evaluation mode.

    Raises
    ------
    WsiError
        ``bad-model`` if the file is missing, damaged, not ours, or does not fit its specification.
    """
    header, tensors = read_tensors(path)
    model = build_model(_spec_of(header, str(path)))
    load_weights(model, tensors, subject=str(path))
    return model


def read_spec(path: str | Path) -> ModelSpec:
    """Return the specification in a checkpoint's header, without its weights.

    Raises
    ------
    WsiError
        ``bad-model`` if the file is missing, damaged or not ours.
    """
    with _opened(Path(path)) as file:
        return _spec_of(file.metadata() or {}, str(path))


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], *, subject: str = "") -> None:
    """Load tensors into a model, every one of them or none.

    Raises
    ------
    WsiError
        ``bad-model`` naming the first keys that are missing, unexpected or of another shape.
    """
    wanted = model.state_dict()
    problems = [
        _list("missing", [name for name in wanted if name not in tensors]),
        _list("unexpected", [name for name in tensors if name not in wanted]),
        _list("of another shape", _other_shapes(wanted, tensors)),
    ]
    if any(problems):
        said = "; ".join(problem for problem in problems if problem)
        raise WsiError("bad-model", f"its weights do not fit the model: {said}", subject=subject)
    model.load_state_dict({name: tensors[name].to(wanted[name].dtype) for name in wanted})


def read_tensors(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the header and the tensors of a ``.safetensors`` file.

    Raises
    ------
    WsiError
        ``bad-model`` if it is missing or damaged.
    """
    with _opened(Path(path)) as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def file_sha256(path: str | Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    tensor = tensor.detach().cpu()
    return (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()


def _in_order(content: bytes) -> tuple[bytes, memoryview]:
    """Return header and tensors of a safetensors file, the keys of the header sorted.

    The library writes metadata in a random order. The format is the length of the header (64 bit,
    little endian), the header as JSON, filled up with spaces, and the tensors.
    """
    end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    values = json.loads(content[_LENGTH_BYTES:end])
    header = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _HEADER_UNIT)
    return len(header).to_bytes(_LENGTH_BYTES, "little") + header, memoryview(content)[end:]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise WsiError("bad-model", "there is no such file", subject=str(path))
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WsiError(
            "bad-model", f"is damaged or no safetensors file ({error})", subject=str(path)
        ) from error


def _spec_of(header: Mapping[str, str], subject: str) -> ModelSpec:
    if HEADER_KEY in header:
        return ModelSpec.from_json(header[HEADER_KEY], subject=subject)
    raise WsiError(
        "bad-model",
        "is no checkpoint of wsi_sampath (no model description in its header); published "
        "checkpoints are converted by 'wsi-models import'",
        subject=subject,
    )


def _other_shapes(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name} {tuple(tensors[name].shape)} for {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]


def _list(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _KEYS_SHOWN} more" if len(names) > _KEYS_SHOWN else ""
    return f"{what}: {', '.join(names[:_KEYS_SHOWN])}{more}"
