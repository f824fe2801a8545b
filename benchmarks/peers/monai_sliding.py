"""One run of MONAI's SlidingWindowInferer over its WSIReader: monai_sliding.py SLIDE OUT.zarr."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
import zarr
from monai.data import WSIReader
from monai.inferers import SlidingWindowInferer
from stub import Stub

with torch.inference_mode():
    net = Stub()
    reader = WSIReader("openslide", level=0)
    image, _ = reader.get_data(reader.read(sys.argv[1]))
    images = torch.from_numpy(np.ascontiguousarray(image))[None].float().div_(255)
    del image
    inferer = SlidingWindowInferer(roi_size=1024, sw_batch_size=4, overlap=0.25, mode="gaussian")
    answer = inferer(images, lambda x: net(x).softmax(1))
    classes = answer[0].argmax(0).to(torch.uint8).numpy()
store = zarr.open(sys.argv[2], mode="w", shape=classes.shape, chunks=(1024, 1024), dtype="u1")
store[:] = classes
