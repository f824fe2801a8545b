"""One run of TIAToolbox's SemanticSegmentor: tiatoolbox_segmentor.py SLIDE OUT_FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from stub import CLASSES, Stub
from tiatoolbox.models.engine.io_config import IOSegmentorConfig
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
from tiatoolbox.models.models_abc import ModelABC


class Model(ModelABC):
    """The stub behind TIAToolbox's interface."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Stub()
        self.class_dict = dict(enumerate(CLASSES))

    def forward(self, images):  # noqa: D102
        return self.net(images).softmax(1)

    @staticmethod
    def infer_batch(model, batch_data, *, device):  # noqa: D102
        images = model.net.preprocess(batch_data.to(device))
        with torch.inference_mode():
            return model(images).permute(0, 2, 3, 1).contiguous().cpu().numpy()

    @staticmethod
    def postproc(probabilities):  # noqa: D102
        return probabilities.argmax(axis=-1)


def main() -> None:
    """Run it."""
    resolution = [{"units": "mpp", "resolution": 0.5}]
    config = IOSegmentorConfig(
        input_resolutions=resolution,
        output_resolutions=resolution,
        patch_input_shape=(1024, 1024),
        patch_output_shape=(1024, 1024),
        stride_shape=(768, 768),
        save_resolution=resolution[0],
    )
    engine = SemanticSegmentor(
        model=Model(), batch_size=4, num_workers=0, device="cpu", verbose=False
    )
    engine.run(
        [Path(sys.argv[1])],
        patch_mode=False,
        save_dir=Path(sys.argv[2]),
        ioconfig=config,
        output_type="zarr",
        overwrite=True,
        auto_get_mask=False,
        return_probabilities=False,
    )


if __name__ == "__main__":
    main()
