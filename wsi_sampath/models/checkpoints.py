"""One file a model: weights as safetensors, the specification in its header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from wsi_sampath.errors import WsiError
from wsi_sampath.files import replacing
from wsi_sampath.models.build import build_network
from wsi_sampath.models.described import HEADER_KEY, PROVENANCE_KEY, damaged_file, spec_in
from wsi_sampath.models.header import LENGTH_BYTES, check_header
from wsi_sampath.models.sketch import bounded, check_memory
from wsi_sampath.models.spec import ModelSpec

if TYPE_CHECKING:
    from wsi_sampath.models.build import AnyNetwork
    from wsi_sampath.models.patho_sam.network import PathoSam
    from wsi_sampath.models.patho_sam.spec import PathoSamSpec
    from wsi_sampath.models.plain_sam.network import PlainSam
    from wsi_sampath.models.plain_sam.spec import PlainSamSpec
    from wsi_sampath.models.sam_path.network import SamPath
    from wsi_sampath.models.sam_path.spec import SamPathSpec
    from wsi_sampath.models.wsi_sam.network import WsiSam
    from wsi_sampath.models.wsi_sam.spec import WsiSamSpec

_KEYS_SHOWN = 3
_NAME_SHOWN = 120
_BLOCK_BYTES = 1 << 20
_HEADER_UNIT = 8

Shapes = Mapping[str, tuple[int, ...]]


@overload
def build_model(
    spec: SamPathSpec, *, fitting: Shapes | None = None, subject: str = ""
) -> SamPath: ...
@overload
def build_model(
    spec: PathoSamSpec, *, fitting: Shapes | None = None, subject: str = ""
) -> PathoSam: ...
@overload
def build_model(
    spec: PlainSamSpec, *, fitting: Shapes | None = None, subject: str = ""
) -> PlainSam: ...
@overload
def build_model(
    spec: WsiSamSpec, *, fitting: Shapes | None = None, subject: str = ""
) -> WsiSam: ...
@overload
def build_model(
    spec: ModelSpec, *, fitting: Shapes | None = None, subject: str = ""
) -> AnyNetwork: ...
def build_model(spec: ModelSpec, *, fitting: Shapes | None = None, subject: str = "") -> AnyNetwork:
    """Return the network of `spec` with random weights, in evaluation mode.

    Its size is known before anything is allocated.

    Parameters
    ----------
    spec
        What to build.
    fitting
        Shapes of the weights that it is to take, by name; None for any.
    subject
        The file with these weights, for messages.

    Raises
    ------
    WsiError
        ``bad-model`` if `spec` is beyond all measure, or needs other weights; ``out-of-memory``.
    """
    sketch = _sketch(spec, subject)
    if fitting is not None:
        _check_shapes(shapes_of(sketch.state_dict()), fitting, subject)
    check_memory(sketch, subject)
    return build_network(spec).eval()


def count_weights(spec: ModelSpec, path: Path) -> int:
    """Return how many weights a model has; those of a checkpoint at `path` are checked one by one.

    Raises
    ------
    WsiError
        ``bad-model`` if there can be no such model, or its file holds other or damaged weights.
    """
    wanted = _sketch(spec, str(path)).state_dict()
    if path.suffix.lower() == ".safetensors":
        with _opened(path) as file:
            _check_shapes(shapes_of(wanted), _shapes_in(file), str(path))
            for name, tensor in wanted.items():
                _numbers({name: tensor}, {name: file.get_tensor(name)}, str(path))
    return sum(tensor.numel() for tensor in wanted.values())


def _sketch(spec: ModelSpec, subject: str) -> AnyNetwork:
    try:
        with bounded():
            return build_network(spec)
    except WsiError as error:
        raise error.about(subject) from None


def save_checkpoint(
    model: AnyNetwork,
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
        Of the stored floating-point tensors: float16 or float32. What is too large for float16
        stays float32.
    provenance
        How the weights came about, as JSON; kept in the header under `PROVENANCE_KEY`.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    WsiError
        ``bad-model`` if weights are not finite.
    """
    path = Path(path)
    _check_finite(model.state_dict(), str(path))
    tensors = {name: _stored(tensor, dtype) for name, tensor in model.state_dict().items()}
    # Not save_file, whose files nobody but their owner may read.
    header = {HEADER_KEY: model.spec.to_json(), "format": "pt"}
    if provenance:
        header[PROVENANCE_KEY] = provenance
    with replacing(path) as growing, growing.open("wb") as file:
        file.writelines(_in_order(save(tensors, metadata=header)))
    return path


def load_checkpoint(path: str | Path) -> AnyNetwork:
    """Read a model written by `save_checkpoint`.

    Returns
    -------
    AnyNetwork
        On the CPU, float32, in evaluation mode.

    Raises
    ------
    WsiError
        ``bad-model`` if the file is missing, damaged, not ours, or does not fit its specification.
    """
    with _opened(Path(path)) as file:
        spec = spec_in(file.metadata() or {}, str(path))
        return _with_weights(spec, file, str(path))


def load_tensors(spec: ModelSpec, path: str | Path) -> AnyNetwork:
    """Build the model of `spec` with the weights of a ``.safetensors`` file, whatever it says.

    Raises
    ------
    WsiError
        ``bad-model`` if the file is missing, damaged, or does not fit.
    """
    with _opened(Path(path)) as file:
        return _with_weights(spec, file, str(path))


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], *, subject: str = "") -> None:
    """Load tensors into a model, every one of them or none.

    Raises
    ------
    WsiError
        ``bad-model`` naming the first keys that are missing, unexpected, of another shape or type,
        or not finite.
    """
    wanted = model.state_dict()
    _check_shapes(shapes_of(wanted), shapes_of(tensors), subject)
    model.load_state_dict(_numbers(wanted, tensors, subject))


def _numbers(
    wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], subject: str
) -> dict[str, Tensor]:
    """Return tensors in the types that are wanted, all of them finite."""
    _complain([_list("not numbers with a fraction", _other_types(wanted, tensors))], subject)
    cast = {name: tensors[name].to(wanted[name].dtype) for name in wanted}
    _check_finite(cast, subject)
    return cast


def _with_weights(spec: ModelSpec, file: Any, subject: str) -> AnyNetwork:
    """Build a network and fill it, once the header says that both fit."""
    shapes = _shapes_in(file)
    model = build_model(spec, fitting=shapes, subject=subject)
    load_weights(model, {name: file.get_tensor(name) for name in shapes}, subject=subject)
    return model


def _shapes_in(file: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(file.get_slice(name).get_shape()) for name in list(file.keys())}


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of tensors, by name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


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
    """Return the sha256 of a file of weights, in hexadecimal.

    Raises
    ------
    WsiError
        ``bad-model`` if it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise WsiError("bad-model", message, subject=str(path)) from error
    return digest.hexdigest()


def _stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    tensor = tensor.detach().cpu()
    if not tensor.is_floating_point():
        return tensor.contiguous()
    rounded = tensor.to(dtype)
    return (rounded if bool(rounded.isfinite().all()) else tensor.float()).contiguous()


def _in_order(content: bytes) -> tuple[bytes, memoryview]:
    """Return header and tensors of a safetensors file, the keys of the header sorted.

    The library writes metadata in a random order. The format is the length of the header (64 bit,
    little endian), the header as JSON, filled up with spaces, and the tensors.
    """
    end = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    values = json.loads(content[LENGTH_BYTES:end])
    header = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _HEADER_UNIT)
    return len(header).to_bytes(LENGTH_BYTES, "little") + header, memoryview(content)[end:]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    check_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, KeyError, AttributeError) as error:
        raise damaged_file(path, error) from error


def _check_shapes(wanted: Shapes, found: Shapes, subject: str) -> None:
    other = [
        f"{name} {found[name]} for {shape}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    problems = [
        _list("missing", [name for name in wanted if name not in found]),
        _list("unexpected", [name for name in found if name not in wanted]),
        _list("of another shape", other),
    ]
    _complain(problems, subject)


def _other_types(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name} {str(tensors[name].dtype).removeprefix('torch.')}"
        for name, tensor in wanted.items()
        if tensor.is_floating_point() and not tensors[name].is_floating_point()
    ]


def _check_finite(tensors: Mapping[str, Tensor], subject: str) -> None:
    wrong = [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]
    if wrong:
        said = _list("its weights are not finite (NaN or infinity)", wrong)
        message = f"{said}; the training diverged, or the file is damaged"
        raise WsiError("bad-model", message, subject=subject)


def _complain(problems: list[str], subject: str) -> None:
    if any(problems):
        said = "; ".join(problem for problem in problems if problem)
        raise WsiError("bad-model", f"its weights do not fit the model: {said}", subject=subject)


def _list(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _KEYS_SHOWN} more" if len(names) > _KEYS_SHOWN else ""
    shown = (name if len(name) <= _NAME_SHOWN else f"{name[:_NAME_SHOWN]}..." for name in names)
    return f"{what}: {', '.join(list(shown)[:_KEYS_SHOWN])}{more}"
