from __future__ import annotations

import numpy as np
from stub_network import StubNetwork, make_stub

from wsi_sampath.inference.predictor import Predictor


class Compiled(StubNetwork):
    done = False

    def compile(self):
        self.done = True

    def maps(self, images, side):
        return super().maps(images, side) if self.done else self.weight.new_zeros(1)


def test_compiling_leaves_the_callers_network_as_it_is():
    model = make_stub(network=Compiled())
    tiles = np.zeros((1, 256, 256, 3), np.uint8)
    predict = Predictor(model, tile_px=256, output_px=64, device="cpu", compile=True)
    assert predict(tiles).shape == (1, 3, 64, 64)
    assert not model.module.done
