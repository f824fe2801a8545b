"""The stub network as a model of the package, where the workers of a cluster can import it."""

from __future__ import annotations

from stub import CLASSES, Stub

from wsi_sampath.classes import ClassSpec
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.spec import ModelSpec


def stub_model(*, pool: int, tile: int) -> LoadedModel:
    classes = tuple(ClassSpec(name=name, color="#808080") for name in CLASSES)
    spec = ModelSpec(name="stub", architecture="stub", classes=classes, mpp=0.5, tile=tile)
    return LoadedModel(Stub(pool).eval(), spec, "0" * 64, "stub")


def load_stub(_settings: SegmentSettings | None = None) -> LoadedModel:
    return stub_model(pool=4, tile=256)
