"""Published weight files: read without running anything in them, and told apart by their content.

A format that comes later has its place in `_recognise`: give it a `Kind` and an entry there, and
a function in `importing` that turns its tensors into a model.
"""

from __future__ import annotations

import argparse
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsi_sampath.errors import WsiError
from wsi_sampath.files import require_file
from wsi_sampath.models.parts.specs import SAM_SIZES
from wsi_sampath.shown import shortened

State = dict[str, Tensor]


class Kind(Enum):
    """What a published file is; the value is how messages call it."""

    SAM = "SAM"
    VIT = "a DINO or plain ViT"
    SAM_PATH = "SAM-Path"
    PATHO_SAM = "PathoSAM"
    PATHO_SAM_DECODER = "a PathoSAM decoder"
    MOBILE_SAM = "MobileSAM"
    WSI_SAM = "a WSI-SAM decoder"


@dataclass(frozen=True)
class Published:
    """The weights of a published file.

    Attributes
    ----------
    kind
        Which format.
    state
        The network's tensors; wrapping, prefixes of the trainer and training heads removed.
    path
        Where they come from.
    """

    kind: Kind
    state: State
    path: Path


_TORCH_FAILURES = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    MemoryError,
    TypeError,
    struct.error,
    zipfile.BadZipFile,
)
_MAX_PICKLE_BYTES = 64 << 20
"""Of the part of a file that is not tensors: names and shapes."""
_REFUSED = re.compile(r"GLOBAL ([\w.]+)|Unsupported (?:class|global)[^\w]*(?:GLOBAL )?([\w.]+)")
_DINO_HEAD = "head."
_CLASSIFIER = ("image_encoder.norm_head.", "image_encoder.head.")
"""Of TinyViT's training on ImageNet, kept in MobileSAM's file and used by nobody."""


def read_published(path: str | Path) -> Published:
    """Read a ``.pth``, ``.pt`` or ``.ckpt`` file in one of the published formats.

    Raises
    ------
    WsiError
        ``bad-model`` if the file is missing or damaged, holds objects other than tensors, or is
        none of the formats.
    """
    path = Path(path)
    content = _load(path)
    found = _recognise(content) if isinstance(content, Mapping) else None
    if found is None:
        raise WsiError(
            "bad-model", f"is not a format we know ({_outline(content)})", subject=str(path)
        )
    kind, state = found
    return Published(kind, _tensors(state, path), path)


def sam_size(state: Mapping[str, Tensor]) -> str:
    """Return ``vit_b``, ``vit_l`` or ``vit_h`` by the shapes of SAM's tensors; "" if none fits."""
    positions = state.get("image_encoder.pos_embed")
    numbers = {int(name.split(".")[2]) for name in state if name.startswith("image_encoder.blocks")}
    for size, values in SAM_SIZES.items():
        same_depth = values["depth"] == len(numbers)
        if same_depth and positions is not None and positions.shape[-1] == values["embed_dim"]:
            return size
    return ""


def prefixed(prefix: str, state: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the tensors under names that begin with `prefix`."""
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def _load(path: Path) -> Any:
    require_file(path, "bad-model")
    _check_archive(path)
    # DINO keeps its command line as a Namespace, which holds values and runs nothing.
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError as error:
        raise WsiError("bad-model", _refusal(str(error)), subject=str(path)) from None
    except _TORCH_FAILURES as error:
        message = f"is damaged or not a file of torch.save ({type(error).__name__})"
        raise WsiError("bad-model", message, subject=str(path)) from error


def _check_archive(path: Path) -> None:
    """Refuse an archive that unpacks to more than it is: torch.save compresses nothing."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except _TORCH_FAILURES as error:
        message = f"is damaged or not a file of torch.save ({type(error).__name__})"
        raise WsiError("bad-model", message, subject=str(path)) from error
    compressed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    unpacked = sum(member.file_size for member in members)
    pickles = sum(member.file_size for member in members if member.filename.endswith(".pkl"))
    if compressed or unpacked > path.stat().st_size or pickles > _MAX_PICKLE_BYTES:
        message = "is not a file of torch.save: what is in it is packed, or larger than the file"
        raise WsiError("bad-model", message, subject=str(path))


def _refusal(text: str) -> str:
    found = _REFUSED.search(text)
    if found is None:
        return "is damaged or not a file of torch.save"
    return (
        f"holds objects other than tensors ({found.group(1) or found.group(2)}), which are never "
        "unpickled; save its state_dict alone: torch.save({'state_dict': state}, FILE)"
    )


def _recognise(content: Mapping[Any, Any]) -> tuple[Kind, Mapping[str, Any]] | None:
    sam, decoder = content.get("model_state"), content.get("decoder_state")
    if isinstance(sam, Mapping) and isinstance(decoder, Mapping):
        # A checkpoint of the training itself has names that begin with "sam.".
        sam = {str(name).removeprefix("sam."): tensor for name, tensor in sam.items()}
        return Kind.PATHO_SAM, prefixed("sam.", sam) | prefixed("decoder.", decoder)
    if isinstance(content.get("state_dict"), Mapping):
        return _sam_path(content["state_dict"]) or _flat(content["state_dict"])
    if isinstance(content.get("teacher"), Mapping):
        return Kind.VIT, _backbone(content["teacher"])
    if isinstance(content.get("model"), Mapping):
        return _flat(content["model"])
    return _flat(content)


def _sam_path(state: Mapping[Any, Any]) -> tuple[Kind, Mapping[str, Any]] | None:
    names = {str(name).removeprefix("model."): tensor for name, tensor in state.items()}
    parts = ("model.mask_decoder.", "model.image_encoder.")
    return (Kind.SAM_PATH, names) if _has(names, *parts) else None


def _flat(state: Mapping[Any, Any]) -> tuple[Kind, Mapping[str, Any]] | None:
    state = {str(name): tensor for name, tensor in state.items()}
    if "hf_token.weight" in state:
        return Kind.WSI_SAM, state
    if _has(state, "image_encoder.layers.", "prompt_encoder.", "mask_decoder."):
        return Kind.MOBILE_SAM, _without(state, *_CLASSIFIER)
    if _has(state, "decoder.blocks.", "deconv"):
        return Kind.PATHO_SAM_DECODER, state
    if _has(state, "image_encoder.blocks.", "prompt_encoder.", "mask_decoder."):
        return Kind.SAM, state
    backbone = _backbone(state)
    return (Kind.VIT, backbone) if _has(backbone, "blocks.", "patch_embed.") else None


def _without(state: Mapping[str, Any], *prefixes: str) -> dict[str, Any]:
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}


def _backbone(state: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a ViT's tensors without the prefixes and the projection head of DINO's training."""
    names = {str(name).removeprefix("module.").removeprefix("backbone."): name for name in state}
    return {
        ours: state[theirs] for ours, theirs in names.items() if not ours.startswith(_DINO_HEAD)
    }


def _has(state: Mapping[str, Any], *prefixes: str) -> bool:
    return all(any(name.startswith(prefix) for name in state) for prefix in prefixes)


def _tensors(state: Mapping[str, Any], path: Path) -> State:
    wrong = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if wrong:
        message = f"its entry '{wrong[0]}' is not a tensor"
        raise WsiError("bad-model", message, subject=str(path))
    odd = [name for name, tensor in state.items() if not _is_plain(tensor)]
    if odd:
        message = f"its entry '{odd[0]}' is not a plain tensor (sparse, quantised or without data)"
        raise WsiError("bad-model", message, subject=str(path))
    if zipfile.is_zipfile(path) and _claimed(state) > _held(path):
        # torch would go on reading behind the end of a tensor's data.
        message = "is damaged: its tensors claim more than it holds"
        raise WsiError("bad-model", message, subject=str(path))
    return dict(state)


def _claimed(state: Mapping[str, Tensor]) -> int:
    """Return the bytes of all different storages."""
    storages = {one.data_ptr(): one.nbytes() for one in map(Tensor.untyped_storage, state.values())}
    return sum(storages.values())


def _held(path: Path) -> int:
    """Return the bytes of all tensors' data in an archive."""
    with zipfile.ZipFile(path) as archive:
        return sum(one.file_size for one in archive.infolist() if "/data/" in one.filename)


def _is_plain(tensor: Tensor) -> bool:
    dense = tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_nested
    return dense and tensor.device.type == "cpu"


def _outline(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"it holds an object of type {type(content).__name__}"
    names = [shortened(str(name)) for name in content]
    more = ", ..." if len(names) > 3 else ""
    return f"its entries: {', '.join(names[:3])}{more}" if names else "it is empty"
