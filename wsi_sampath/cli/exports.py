"""What ``wsi-models export`` is asked for, and the file it writes."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from wsi_sampath.cli.imports import check_target
from wsi_sampath.errors import UsageError
from wsi_sampath.extras import install_hint
from wsi_sampath.settings import Flags, Frozen, Help

_NEEDED = ("onnx", "onnxscript")
_SMALLER = "close other programs, or take a machine with more"


class ExportRequest(Frozen):
    """The options of ``wsi-models export``."""

    onnx: Annotated[Path, Flags("--onnx", "-o"), Help("The .onnx file to write.")]
    input: Annotated[
        Literal["uint8", "float"],
        Help(
            "What the file takes, RGB 0..255: uint8 (n, tile, tile, 3), or float (n, 3, tile, "
            "tile) for programs that put channels first."
        ),
    ] = "uint8"


def exported(request: ExportRequest, model: str) -> str:
    """Write the file that is asked for, and return what to say of it.

    Raises
    ------
    UsageError
        For a model that makes no maps or has no weights, packages that are missing, or a file
        that cannot be written or is not ours.
    WsiError
        ``bad-model`` for an unknown model, or one that cannot be translated.
    """
    from wsi_sampath.models.described import SPECIFICATIONS, model_spec
    from wsi_sampath.models.spec import refuse_mapless

    check_target("--onnx", request.onnx, ".onnx")
    spec = model_spec(model)
    refuse_mapless(spec)
    if Path(model).suffix.lower() in SPECIFICATIONS:
        message = "is a specification without weights; export the .safetensors of the model"
        raise UsageError(message, subject=model)
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise UsageError(f"--onnx needs {' and '.join(missing)}: {install_hint('onnx')}")
    from wsi_sampath.cli.progress import say
    from wsi_sampath.explained import explained
    from wsi_sampath.models.onnx_file import input_shape, map_names, onnx_target, write_onnx
    from wsi_sampath.models.zoo import load_model

    target = onnx_target(request.onnx)
    say(f"{spec.name}: translating the network, a minute or more")
    told = partial(explained, smaller=_SMALLER, again="run the command again")
    with told(model):
        loaded = load_model(model)
    with told(str(request.onnx)):
        write_onnx(loaded, target, request.input)
    taken = ", ".join(map(str, input_shape(spec, request.input, 1)[1:]))
    side = spec.tile // spec.output_stride
    given = f"(n, {len(map_names(spec))}, {side}, {side})"
    return f"{request.onnx}: {spec.name}, {request.input} tiles (n, {taken}) in, maps {given} out"
