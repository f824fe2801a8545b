"""Networks that make maps as ONNX files, which say in their metadata how they are to be used."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NewType

import torch
from torch import Tensor, nn

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.files import replacing
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.patho_sam.network import NUCLEUS_MAPS
from wsi_sampath.models.patho_sam.spec import PathoSamSpec
from wsi_sampath.version import __version__

if TYPE_CHECKING:
    from wsi_sampath.models.spec import ModelSpec

TileInput = Literal["uint8", "float"]
OnnxTarget = NewType("OnnxTarget", Path)
"""Where an export may be written: nothing lies there that is not ours."""
OURS = "wsi_sampath"
"""Key in the metadata of every file that is written here; its value is our version."""

_OPSET = 18
"""The oldest one that torch writes without rewriting: runtimes of 2023 and later read it."""
_MAX_BYTES = 2**31 - 2**24
"""What one ONNX file holds, less room for the graph."""
_EXAMPLES = 2
"""With a single example torch would take the batch for a constant."""


class TileMaps(nn.Module):
    """From tiles to maps, with what `preprocess` does to them inside."""

    def __init__(self, model: LoadedModel, kind: TileInput) -> None:
        super().__init__()
        self.network, self.kind = model.tile_network, kind
        self.side = model.spec.tile // model.spec.output_stride

    def forward(self, tiles: Tensor) -> Tensor:
        """Return the maps of tiles as `input_shape` has them."""
        if self.kind == "float":
            tiles = tiles.permute(0, 2, 3, 1)
        return self.network.maps(self.network.preprocess(tiles), self.side)


def input_shape(spec: ModelSpec, kind: TileInput, count: int) -> tuple[int, ...]:
    """Return the shape of `count` tiles as the file takes them."""
    side = (spec.tile, spec.tile)
    return (count, *side, 3) if kind == "uint8" else (count, 3, *side)


def map_names(spec: ModelSpec) -> tuple[str, ...]:
    """Return what each channel of the maps is."""
    classes = tuple(one.name for one in spec.classes)
    if not isinstance(spec, PathoSamSpec):
        return classes
    return (*NUCLEUS_MAPS, "no nucleus", *classes) if spec.class_decoder else NUCLEUS_MAPS


def onnx_metadata(model: LoadedModel, kind: TileInput) -> dict[str, str]:
    """Return what a user of the file needs to know, each value as text or JSON."""
    spec = model.spec
    layout = "n,height,width,channel" if kind == "uint8" else "n,channel,height,width"
    values = {
        OURS: __version__,
        "model": spec.name,
        "architecture": spec.architecture,
        "description": spec.description,
        "licence": spec.licence,
        "training_data": spec.training_data,
        "warnings": list(model.warnings),
        "weights_sha256": model.weights_sha256,
        "classes": [one.model_dump(mode="json") for one in spec.classes],
        "maps": map_names(spec),
        "activation": "softmax" if spec.labels_pixels else "sigmoid",
        "input": f"{kind} {layout}; RGB 0..255, not normalised",
        "mpp": spec.mpp,
        "tile": spec.tile,
        "stride": spec.output_stride,
        "mean": spec.mean,
        "std": spec.std,
        "normalisation": _normalisation(spec),
    }
    return {key: _text(value) for key, value in values.items()}


def onnx_target(path: Path) -> OnnxTarget:
    """Make sure that nothing lies at `path` but, perhaps, an earlier export.

    That export is read as a whole, up to 2 GiB: asked once, and before anything that takes long.

    Raises
    ------
    UsageError
        Where something else lies there, or what cannot be read.
    """
    try:
        is_ours = not path.is_symlink() and (not path.exists() or OURS in read_metadata(path))
    except OSError as error:
        message = f"the file that is there cannot be read: {error.strerror or error}; move it away"
        raise UsageError(f"{message}, or name another with --onnx", subject=str(path)) from None
    if not is_ours:
        message = "the model would replace a file that is not ours; move it away, or name another"
        raise UsageError(f"{message} with --onnx", subject=str(path))
    return OnnxTarget(path)


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of an ONNX file; {} for any other file.

    Raises
    ------
    OSError
        Where it cannot be read.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        read = onnx.load(path, load_external_data=False)
    except DecodeError:
        return {}
    return {one.key: one.value for one in read.metadata_props}


def write_onnx(model: LoadedModel, path: OnnxTarget, kind: TileInput = "uint8") -> None:
    """Write a network that makes maps as one ONNX file, from tiles to maps ready to be averaged.

    Its input is ``tiles``, uint8 (n, tile, tile, 3) or float32 (n, 3, tile, tile), RGB in 0..255;
    its output ``maps``, float32 (n, maps, tile / stride, tile / stride) in 0..1, for any n.

    Parameters
    ----------
    model
        On the CPU.
    path
        Where to, from `onnx_target`; an earlier export is replaced.
    kind
        Which input the file takes.

    Raises
    ------
    UsageError
        For a network that answers prompts only, or one that one file cannot hold.
    WsiError
        ``bad-model`` for a network that torch cannot translate.
    ImportError
        Without the packages onnx and onnxscript.
    """
    maps = TileMaps(model, kind).eval()
    if _weight_bytes(model.module) > _MAX_BYTES:
        message = "its weights take more than the 2 GiB that one ONNX file can hold"
        raise UsageError(message, subject=model.source)
    dtype = torch.uint8 if kind == "uint8" else torch.float32
    example = torch.zeros(input_shape(model.spec, kind, _EXAMPLES), dtype=dtype)
    proto = _translated(maps, example, model.source)
    content = _tidied(proto, onnx_metadata(model, kind)).SerializeToString(deterministic=True)
    with replacing(path) as growing:
        growing.write_bytes(content)


def _translated(maps: TileMaps, example: Tensor, subject: str) -> Any:
    try:
        with warnings.catch_warnings():
            # Of torch about itself.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                maps,
                (example,),
                dynamo=True,
                input_names=["tiles"],
                output_names=["maps"],
                dynamic_shapes={"tiles": {0: torch.export.Dim("n")}},
                opset_version=_OPSET,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        cause = str(error.__cause__ or error).strip().partition("\n")[0]
        message = f"torch cannot write its network as ONNX: {cause}"
        raise WsiError("bad-model", message, subject=subject) from error
    if program is None:
        raise AssertionError("torch.onnx.export returned no program")
    return program.model_proto


def _tidied(proto: Any, metadata: dict[str, str]) -> Any:
    """Return a translated model with our metadata alone; torch's hold paths of this machine."""
    from onnx.helper import set_model_props

    graphs = [proto.graph, *proto.functions]
    for part in (*graphs, *(one for graph in graphs for one in (*graph.node, *graph.value_info))):
        del part.metadata_props[:]
        part.doc_string = ""
    for value in (*proto.graph.initializer, *proto.graph.input, *proto.graph.output):
        del value.metadata_props[:]
    set_model_props(proto, metadata)
    return proto


def _weight_bytes(module: Any) -> int:
    tensors = (*module.parameters(), *module.buffers())
    return sum(one.numel() * one.element_size() for one in tensors)


def _normalisation(spec: ModelSpec) -> str:
    stretched = isinstance(spec, PathoSamSpec) and spec.compat.stretched_tiles
    first = "each colour of each tile stretched to 0..255, then " if stretched else ""
    return f"{first}(RGB / 255 - mean) / std, inside the graph"


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
