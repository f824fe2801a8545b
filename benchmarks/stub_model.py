"""The stub network as a model of the package, where the workers of a cluster can import it."""

from __future__ import annotations

from stub import CLASSES, Stub

from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.models.loaded import LoadedModel
from wsi_sampath.models.spec import ClassSpec, ModelSpec


def load_stub(_settings: SegmentSettings | None = None) -> LoadedModel:
    classes = tuple(ClassSpec(name=name, color="#808080") for name in CLASSES)
    spec = ModelSpec(
        name="stub", architecture="sam_path", classes=classes, mpp=0.5, tile=256, sam="vit_b"
    )
    return LoadedModel(Stub(4).eval(), spec, "0" * 64, "stub")
