"""The parts of segment-anything that we build on, without importing its package.

``import segment_anything`` also loads its mask generator, and with it torchvision and a compiler:
more than a second before the first line of ours, for nothing that we use.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec

_PACKAGE = "segment_anything"


def _without_face() -> None:
    """Stand in an empty package of the right place, through which its modules can be imported."""
    found = find_spec(_PACKAGE)
    if found is None:
        raise ModuleNotFoundError(f"No module named {_PACKAGE!r}", name=_PACKAGE)
    sys.modules[_PACKAGE] = module_from_spec(found)


_stands_in = _PACKAGE not in sys.modules
if _stands_in:
    _without_face()

from segment_anything.modeling.common import LayerNorm2d  # noqa: E402
from segment_anything.modeling.image_encoder import ImageEncoderViT  # noqa: E402
from segment_anything.modeling.mask_decoder import MLP, MaskDecoder  # noqa: E402
from segment_anything.modeling.prompt_encoder import PromptEncoder  # noqa: E402
from segment_anything.modeling.transformer import TwoWayTransformer  # noqa: E402

if _stands_in:
    # Later imports of the package get all of it.
    del sys.modules[_PACKAGE]

__all__ = [
    "MLP",
    "ImageEncoderViT",
    "LayerNorm2d",
    "MaskDecoder",
    "PromptEncoder",
    "TwoWayTransformer",
]
