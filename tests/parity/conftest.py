import argparse
import importlib.util
import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from wsi_sampath.models.parts.attention import RelPosAttention

FOLDER = Path(os.environ.get("WSI_SAMPATH_PARITY") or Path(__file__).parent / "fixtures")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Parity:
    """The fixtures of one folder: recorded numbers, and the weights and images behind them."""

    def npz(self, name):
        return np.load(self._file(f"{name}.npz"))

    def weights(self, model, salt):
        keys = json.loads(self._file("keys.json").read_text())[model]
        rule = self._module("weights").weight
        return {
            key: torch.from_numpy(np.asarray(rule(key, shape, salt))) for key, shape in keys.items()
        }

    def wsi_sam(self, backbone, salt):
        """The weights of a SAM and of the decoders of the high and the low resolution."""
        sam = self.weights(f"sam_{backbone}", salt)
        keys = json.loads(self._file("keys.json").read_text())[f"wsisam_net_{backbone}"]
        rule = self._module("weights").weight
        nets = [
            {
                key: torch.from_numpy(np.asarray(rule(name.format(net=net), shape, salt)))
                for key, (name, shape) in keys.items()
            }
            for net in ("net_high", "net_low")
        ]
        return sam, *nets

    def image(self, seed, height=1024, width=1024):
        return self._module("weights").image(int(seed), int(height), int(width))

    def check(self, npz, name, tensor):
        self._module("compare").check(npz, name, tensor.detach().numpy())

    def subsample(self, npz, name, full):
        """The values of a whole tensor that were recorded."""
        return self._module("compare").subsample(npz, name, full)

    def off(self, npz, name, tensor):
        """The largest difference, as a share of the limit."""
        values = tensor.detach().cpu().numpy()
        worst, limit, _ = self._module("compare").difference(npz, name, values)
        return worst / limit

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


class Published:
    """Weights wrapped and saved as their authors do; the files go when the test is over."""

    def __init__(self, folder):
        self.folder = folder

    def sam(self, state):
        return self._save("sam.pth", state)

    def hipt(self, state):
        """DINO's training checkpoint, with all that is beside the backbone of the teacher."""
        heads = {f"head.mlp.{i}.{kind}": torch.zeros(2) for i in (0, 2, 4) for kind in ("weight",)}
        teacher = {f"backbone.{name}": tensor for name, tensor in state.items()} | heads
        content = {
            "teacher": teacher,
            "student": {"module.backbone.cls_token": torch.zeros(1)},
            "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]},
            "epoch": 100,
            "args": argparse.Namespace(arch="vit_small", patch_size=16),
        }
        return self._save("hipt.pth", content)

    def sam_path(self, state):
        """A Lightning checkpoint."""
        content = {
            "epoch": 31,
            "global_step": 2304,
            "pytorch-lightning_version": "2.0.7",
            "state_dict": {f"model.{name}": tensor for name, tensor in state.items()},
            "loops": {"fit_loop": {"state_dict": {}}},
            "callbacks": {},
            "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}}],
            "lr_schedulers": [{"last_epoch": 2304}],
        }
        return self._save("sam_path.ckpt", content)

    def wsi_sam(self, sam, high, low):
        """The three files of a WSI-SAM: of its SAM, the high and the low resolution."""
        nets = (("net_high.pth", high), ("net_low.pth", low))
        files = [self._save(name, {"model": net, "epoch": 19}) for name, net in nets]
        return self.sam(sam), *files

    def decoder(self, state, name):
        """One decoder of PathoSAM."""
        return self._save(f"{name}.pt", state)

    def patho_sam(self, sam, decoder):
        """A PathoSAM exported with its decoder."""
        return self._save("patho_sam.pt", {"model_state": sam, "decoder_state": decoder})

    def _save(self, name, content):
        path = self.folder / name
        torch.save(content, path)
        return path


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    yield Published(folder)
    for path in folder.iterdir():
        path.unlink()


def digest(tensors):
    value = 0
    for tensor in tensors:
        value = zlib.crc32(np.ascontiguousarray(tensor.detach().numpy()), value)
    return value


def attention_of(encoder):
    return frozenset(one.mode for one in encoder.modules() if isinstance(one, RelPosAttention))


@pytest.fixture(scope="session")
def remember():
    """Let an encoder answer from memory where the same weights saw the same image the same way.

    Encoders take nearly all the time here, and the fixtures have some of them in common.
    """
    answers = {}

    def wrap(encoder):
        own, weights = type(encoder).forward, digest(encoder.state_dict().values())

        def forward(images):
            half = torch.is_autocast_enabled("cpu")
            key = (weights, digest([images]), attention_of(encoder), half)
            if key not in answers:
                answers[key] = own(encoder, images)
            return answers[key]

        encoder.forward = forward

    return wrap
