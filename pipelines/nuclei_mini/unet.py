"""A U-Net of about nuclei-mini's size, trained on the same crops for the same maps of nuclei.

``python -m pipelines.nuclei_mini.unet DATA --steps N --out FILE --json FIGURES`` adds its scores to
the figures that ``pipelines.nuclei_mini.train`` has stored. Killed and started again, it resumes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from pipelines.nuclei_mini.crops import Crop, Crops
from pipelines.nuclei_mini.data import read_fields
from pipelines.nuclei_mini.figures import by_network, judge
from pipelines.nuclei_mini.run import Losses, Plan, map_losses, stacked, train_nuclei
from pipelines.nuclei_mini.train import JUDGED, SHARES, arguments, of_part
from pipelines.unet import PlainUNet
from wsi_sampath.data.patches import write_atomically
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.parse import spec_from_yaml
from wsi_sampath.models.parts.encoders import resized
from wsi_sampath.models.patho_sam.network import NUCLEUS_MAPS
from wsi_sampath.models.spec import ModelSpec

WIDTH = 20
NAME = "U-Net"


class NucleusUNet(nn.Module):
    """A `PlainUNet` that makes PathoSAM's maps of nuclei.

    Parameters
    ----------
    spec
        Of the PathoSAM that it is compared with.
    width
        Channels of its first level.
    """

    def __init__(self, spec: ModelSpec, width: int = WIDTH) -> None:
        super().__init__()
        self.spec = spec
        self.body = PlainUNet(spec, width, len(NUCLEUS_MAPS))

    def preprocess(self, tiles: Tensor) -> Tensor:
        """See `TileNetwork`."""
        return self.body.preprocess(tiles)

    def maps(self, images: Tensor, side: int) -> Tensor:
        """See `TileNetwork`."""
        return resized(cast(Tensor, self.body(images)).float().sigmoid(), side)


def unet_losses(model: NucleusUNet, batch: Sequence[Crop], _step: int) -> Losses:
    """Return the losses of the maps."""
    images, maps, _ = stacked(batch)
    return map_losses(model.maps(model.preprocess(images), model.spec.tile), maps)


def as_loaded(model: NucleusUNet) -> LoadedModel:
    """Return a trained network as what the evaluation takes."""
    return LoadedModel(model.eval(), model.spec, "", NAME)


def main() -> None:
    """Train, and add the scores to the figures."""
    options = arguments()
    torch.set_num_threads(options.threads)
    fields = read_fields(options.data)
    spec = spec_from_yaml(options.spec)
    torch.manual_seed(options.seed)
    plan = Plan(steps=options.steps, seed=options.seed)
    crops = Crops(of_part(fields, "train"), SHARES, spec.tile, options.seed)

    def scores(model: NucleusUNet, part: str, source: str) -> dict[str, float]:
        return judge(by_network(as_loaded(model)), of_part(fields, part, source))

    def report(model: NucleusUNet) -> dict[str, float]:
        return {source: scores(model, "validation", source)["f1_50"] for source in JUDGED}

    state = options.out.with_suffix(".state")
    trained = train_nuclei(NucleusUNet(spec), unet_losses, crops, plan, state, report)
    figures = json.loads(options.json.read_text(encoding="utf-8"))
    figures["unet"] = {
        "parameters": sum(weight.numel() for weight in trained.parameters()),
        "training": {"steps": plan.steps, "batch": plan.batch, "peak": plan.peak},
    }
    for part in ("validation", "test"):
        for source in JUDGED:
            figures[f"{source}_{part}"][NAME] = scores(trained, part, source)
    write_atomically(options.json, f"{json.dumps(figures, indent=2)}\n".encode())


if __name__ == "__main__":
    main()
