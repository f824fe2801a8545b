import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(os.environ.get("WSI_SAMPATH_PARITY") or Path(__file__).parent / "fixtures")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Parity:
    """The fixtures of one folder: recorded numbers, and the weights and images behind them."""

    def npz(self, name):
        return np.load(self._file(f"{name}.npz"))

    def weights(self, model, salt):
        keys = json.loads(self._file("keys.json").read_text())[model]
        rule = self._module("weights").weight
        return {key: torch.from_numpy(rule(key, shape, salt)) for key, shape in keys.items()}

    def image(self, seed, height=1024, width=1024):
        return self._module("weights").image(int(seed), int(height), int(width))

    def check(self, npz, name, tensor):
        self._module("compare").check(npz, name, tensor.detach().numpy())

    def _file(self, name):
        path = FOLDER / name
        if not path.is_file():
            pytest.skip(f"no {name} in {FOLDER}")
        return path

    def _module(self, name):
        spec = importlib.util.spec_from_file_location(f"parity_{name}", self._file(f"{name}.py"))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


@pytest.fixture(scope="session")
def parity():
    return Parity()


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def imagenet_normalised(image):
    """The rule of the recorded runs: in float64, rounded to float32 at the end."""
    mean, std = (np.array(part) for part in IMAGENET)
    values = ((image / 255 - mean) / std).astype(np.float32)
    return torch.from_numpy(values).permute(2, 0, 1)[None]


@pytest.fixture(scope="session")
def normalised():
    return imagenet_normalised
