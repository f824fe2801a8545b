"""What the pages take for granted: a slide, its results and annotations, and quick networks.

Where WSI_SAMPATH_DOCS is set, the bundled models themselves run, and blocks marked as slow too.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from stub_network import StubNetwork
from torch import nn
from torch.nn import functional as F

from wsi_sampath.evaluation import patches as patch_scores
from wsi_sampath.models import zoo
from wsi_sampath.models.described import model_spec
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.synthetic.svs_writer import write_svs

ROOT = Path(__file__).parents[1]
THOROUGH = bool(os.environ.get("WSI_SAMPATH_DOCS"))
SIDE = 960


class QuickNuclei(nn.Module):
    """Nuclei are what is dark, and the answer to a prompt is a disc."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("anchor", torch.zeros(1))

    def preprocess(self, tiles):
        return tiles.permute(0, 3, 1, 2).float() / 255

    def maps(self, images, side):
        dark = torch.sigmoid((0.5 - images[:, :1]) * 30)
        inside = F.avg_pool2d(dark, 7, 1, 3)
        maps = torch.cat([dark, 1 - inside, 1 - inside], dim=1)
        return F.adaptive_avg_pool2d(maps, side)

    def embed(self, views):
        return tuple(views)

    def masks(self, embedding, prompts, *, multimask=True):
        side = embedding[0].shape[-1]
        if prompts.boxes is None:
            places = prompts.points[:, 0]
        else:
            places = (prompts.boxes[:, :2] + prompts.boxes[:, 2:]) / 2
        y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        x0, y0 = places.float().T[..., None, None]
        disc = 10 - torch.hypot(x - x0, y - y0)
        count = 3 if multimask else 1
        return disc[:, None].repeat(1, count, 1, 1), torch.full((len(disc), count), 0.9)


def quick_model(name: str) -> LoadedModel:
    """Return what stands in for a bundled model: its specification, and a network for nothing."""
    spec = model_spec(name)
    if name == "nuclei-mini":
        return LoadedModel(QuickNuclei().eval(), spec, "0" * 64, name)
    quick = spec.model_copy(update={"tile": 256})
    return LoadedModel(StubNetwork(len(spec.classes)).eval(), quick, "0" * 64, name)


def use_quick_models(monkeypatch) -> None:
    """Let the bundled models cost nothing; every other model is loaded as ever."""
    load = zoo.load_model

    def loaded(name="gland-mini", **how):
        return quick_model(str(name)) if str(name).endswith("-mini") else load(name, **how)

    for module in (zoo, patch_scores):
        monkeypatch.setattr(module, "load_model", loaded)


def make_world(folder: Path, painted: Path, run) -> Path:
    """Fill a folder with what the pages name.

    Parameters
    ----------
    painted
        A painted slide, of which a square is cut.
    run
        Runs a command of ours, given its words.
    """
    from wsi_sampath.slides.slide import Slide

    with Slide.open(painted) as slide:
        width, height = slide.size
        x, y = (width - SIDE) // 2, (height - SIDE) // 2
        pixels = slide.read(x0=x, y0=y, width=SIDE, height=SIDE, mpp=slide.mpp.x)
    for name in ("slide.svs", "other.svs", "A.svs", "B.svs", "slides/a.svs", "slides/b.svs"):
        (folder / name).parent.mkdir(exist_ok=True)
        side = SIDE if name in ("A.svs", "B.svs") else SIDE // 2
        rows = [pixels[:side, :side]]
        write_svs(folder / name, rows, width=side, height=side, mpp=0.5, levels=(1,))
    (folder / "slides.txt").write_text("slides/a.svs\n")
    for name in ("A", "B", "slide-annotations", "annotations", "rough"):
        (folder / f"{name}.geojson").write_text(json.dumps(areas()))
    (folder / "clicks.geojson").write_text(json.dumps(clicks()))
    for name in ("configs", "constraints.txt", "pipelines"):
        (folder / name).symlink_to(ROOT / name)
    os.chdir(folder)
    run("wsi-segment", "slide.svs", "--out", "slide.zarr", "--quiet")
    run("wsi-segment", "slide.svs", "--out", "nuclei.zarr", "--model", "nuclei-mini", "--quiet")
    return folder


def areas() -> dict:
    """Two areas as QuPath exports them."""
    return _collection(
        _feature("Polygon", [_box(40, 40, 760, 420)], "gland"),
        _feature("Polygon", [_box(40, 440, 760, 760)], "other"),
    )


def clicks() -> dict:
    """A point and a box as QuPath exports them."""
    return _collection(
        _feature("Point", [400, 380], "nucleus"),
        _feature("Polygon", [_box(300, 300, 330, 330)], "nucleus"),
    )


def _box(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def _feature(kind, coordinates, name) -> dict:
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": {
            "objectType": "annotation",
            "classification": {"name": name, "color": [200, 0, 0]},
        },
    }


def _collection(*features) -> dict:
    return {"type": "FeatureCollection", "features": list(features)}
