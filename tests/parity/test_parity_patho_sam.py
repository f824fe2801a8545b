"""PathoSAM against the official code: decoders, and an image all the way to its maps."""

import re

import numpy as np
import pytest
import torch

from wsi_sampath.models.parts.frame import image_in_frame, size_in_frame
from wsi_sampath.models.patho_sam.importing import import_patho_sam
from wsi_sampath.models.patho_sam.network import NUCLEUS_MAPS, PathoSam
from wsi_sampath.models.patho_sam.spec import PathoSamSpec

AGREEMENT = 0.9999
DECODER_PARAMETERS = 9_591_235
TYPES = ("neoplastic", "inflammatory", "connective", "dead", "epithelial")
RECORDED_MAPS = ("foreground", "center_distances", "boundary_distances")
SMALL = {"embed_dim": 8, "depth": 1, "num_heads": 1, "global_attn_indexes": [0]}


def spec_of(*, sam="vit_b", classes=("nucleus",), **compat):
    return PathoSamSpec.model_validate(
        {
            "name": "test",
            "classes": [{"name": name, "color": "#808080"} for name in classes],
            "mpp": 0.25,
            "sam": sam,
            "class_decoder": len(classes) > 1,
            "compat": {"cropped_skips": True, **compat},
        }
    )


@pytest.fixture(scope="module")
def recorded(parity):
    return parity.npz("pathosam_decoder")


@pytest.fixture(scope="module")
def embedding(recorded):
    rng = np.random.Generator(np.random.PCG64(int(recorded["embedding_seed"])))
    return torch.from_numpy(rng.standard_normal((1, 256, 64, 64), dtype=np.float32))


@pytest.fixture(scope="module")
def nuclei(parity, recorded):
    return parity.weights("pathosam_decoder_out3", recorded["salt"].item())


@pytest.fixture(scope="module")
def types(parity, recorded):
    return parity.weights("pathosam_decoder_out6", recorded["salt"].item())


def from_files(published, spec, nuclei, types=None):
    """A small SAM with the published decoders, through the files of their authors."""
    torch.manual_seed(0)
    sam = published.sam(PathoSam(spec).sam.state_dict())
    classes = None if types is None else published.decoder(types, "classes")
    return import_patho_sam(
        sam, spec, decoder=published.decoder(nuclei, "nuclei"), class_decoder=classes
    )


@torch.no_grad()
def test_decoders(parity, recorded, embedding, nuclei, types, published):
    model = from_files(published, spec_of(sam=SMALL, classes=TYPES), nuclei, types)
    assert sum(one.numel() for one in model.decoder.parameters()) == DECODER_PARAMETERS
    seen = {}
    for name, part in (
        ("z9", model.decoder.deconv1),
        ("z3", model.decoder.deconv3),
        ("decoder_out", model.decoder.decoder),
    ):
        part.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    model.sam.image_encoder.forward = lambda _images: embedding
    images = torch.zeros(1, 3, model.spec.frame, model.spec.frame)
    logits = model(images)
    for name, tensor in (seen | {"logits": logits[:, :3]}).items():
        parity.check(recorded, name, tensor)
    model.forward = lambda _images: logits
    full, small = model.maps(images, 1024), model.maps(images, 256)
    parity.check(recorded, "out", full[:, :3])
    parity.check(recorded, "semantic/out", full[:, 3:])
    parity.check(recorded, "semantic/out_256", small[:, 3:])
    labels = small[0, 3:].argmax(dim=0).numpy()
    assert (labels == recorded["semantic/labels_256"].reshape(labels.shape)).mean() >= AGREEMENT
    (name,) = [one for one in recorded.files if re.fullmatch(r"cropped_\d+x\d+", one)]
    original = tuple(map(int, name.removeprefix("cropped_").split("x")))
    used = size_in_frame(original, model.spec.frame)
    parity.check(recorded, name, model.sam.at_image_size(full[:, :3], used, original))


@torch.no_grad()
def test_batch_statistics(parity, recorded, embedding, nuclei, published):
    model = from_files(published, spec_of(sam=SMALL, batch_statistics=True), nuclei)
    assert not model.training
    parity.check(recorded, "batchstat/out", model.decode(embedding).sigmoid())


@torch.no_grad()
def test_an_image_to_its_maps(parity, published):
    recorded = parity.npz("pathosam_e2e")
    salt = recorded["salt"].item()
    sam = parity.weights("sam_vit_b", salt)
    decoder = parity.weights("pathosam_decoder_out3", salt)
    model = import_patho_sam(published.patho_sam(sam, decoder), spec_of(stretched_tiles=True))
    size = tuple(map(int, recorded["e2e/size_hw"]))
    image = (parity.image(recorded["e2e/image_seed"], *size) * 0.6 + 30).astype(np.uint8)
    normalised = model.preprocess(torch.from_numpy(image)[None])[0]
    levels = (normalised * model.std + model.mean) * 255
    stretched = levels.permute(1, 2, 0).round().numpy().astype(np.uint8)
    assert np.array_equal(stretched[::9, ::9], recorded["e2e/stretched_sub9"])
    frame = torch.zeros(1, 3, model.spec.frame, model.spec.frame)
    height, width = size_in_frame(size, model.spec.frame)
    # What comes now is normalisation alone: the picture is stretched, and resizing narrows it.
    model.spec = spec_of()
    resized = torch.from_numpy(image_in_frame(stretched, model.spec.frame).copy())
    frame[..., :height, :width] = model.preprocess(resized[None])
    embedding = model.sam.image_encoder(frame)
    parity.check(recorded, "e2e/embedding", embedding)
    maps = model.decode(embedding).sigmoid()
    maps = model.sam.at_image_size(maps, (height, width), size)[0]
    assert len(maps) == len(NUCLEUS_MAPS)
    for name, tensor in zip(RECORDED_MAPS, maps, strict=True):
        parity.check(recorded, f"e2e/{name}", tensor)
