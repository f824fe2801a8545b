"""Let torchvision import beside a CPU-only torch.

The torchvision wheel on PyPI is built for CUDA. Beside a CPU build of torch its compiled operators
cannot be loaded, and `import torchvision` then dies while registering the fake kernels of
operators (``torchvision::nms``, ...) that only the missing library would have declared. Declaring
them first is enough: nothing of ours calls them on such a machine. timm imports torchvision, so
this runs before it.
"""

from __future__ import annotations

import re
import sys

import torch

_MISSING = re.compile(r"operator torchvision::(\w+) does not exist")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_MOST_OPERATORS = 16
_declared: list[torch.library.Library] = []


def ensure_torchvision_imports() -> None:
    """Make ``import torchvision`` succeed; a no-op where it does already."""
    for _ in range(_MOST_OPERATORS):
        missing = _missing_operator()
        if missing is None:
            return
        _declare(missing)
    import torchvision  # noqa: F401


def _missing_operator() -> str | None:
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        found = _MISSING.search(str(error))
        if found is None:
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        return found.group(1)
    return None


def _declare(operator: str) -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    library.define(operator + _SCHEMA)  # type: ignore[no-untyped-call]
    _declared.append(library)
