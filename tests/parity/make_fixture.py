"""Make a second fixture folder, from our own code: other salts, seeds, class numbers, image sizes.

It proves nothing about the official code, only that the tests take all of these from the files.

Run: python tests/parity/make_fixture.py FOLDER [--full]
"""

import argparse
import json
import re
import runpy
import shutil
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from wsi_sam_numbers import SIDES, everything, spec_of

from wsi_sampath.evaluation.metrics import paper_scores
from wsi_sampath.models.checkpoints import build_model, load_weights
from wsi_sampath.models.network import Prompts
from wsi_sampath.models.parts.encoders import Renormalise, VitEncoder
from wsi_sampath.models.parts.specs import HIPT_VIT
from wsi_sampath.models.sam_path.names import from_published
from wsi_sampath.models.sam_path.spec import SamPathSpec
from wsi_sampath.models.spec import IMAGENET_MEAN, IMAGENET_STD
from wsi_sampath.models.wsi_sam.spec import WsiSamSpec
from wsi_sampath.training.losses import LossWeights, segmentation_loss
from wsi_sampath.training.task import learning_rate

GIVEN = Path(__file__).parent / "fixtures"
SALT, CHANNELS, SIZE, SEED = "other ", 4, (640, 896), 977
HALF = (0.5, 0.5, 0.5)
PER_CLASS = re.compile(r"(output_hypernetworks_mlps\.)(\d+)(\..*)")
LAST = (
    "mask_tokens.weight",
    "iou_prediction_head.layers.2.weight",
    "iou_prediction_head.layers.2.bias",
)
COEFFICIENTS = {"bcss": (0.25, 0.75, 0.0, 0.0625), "crag": (0.125, 0.875, 0.0, 0.0)}
SCHEDULES = {"bcss": (72, (1800, 2088), 2304), "crag": (46, (1150, 1265), 1380)}


def keys_for(keys, channels, *, full):
    """The names and shapes of another number of classes; without SAM's blocks unless `full`."""
    out = {}
    for name, shape in keys.items():
        if not full and name.startswith("model.image_encoder.blocks."):
            continue
        if name.endswith(LAST):
            out[name] = [channels + 1, *shape[1:]]
        elif not (match := PER_CLASS.search(name)) or int(match[2]) <= channels:
            out[name] = shape
    return out


def weights(rule, keys):
    return {
        key: torch.from_numpy(np.asarray(rule(key, shape, SALT))) for key, shape in keys.items()
    }


def normalised(image):
    values = (image / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None]


def sampled(name, tensor, most=4096):
    """A tensor as the fixtures keep it: every stride-th element, and how far off one may be."""
    full = tensor.detach().numpy()
    stride = max(1, round((full.size / most) ** (1 / sum(side > 1 for side in full.shape))))
    steps = [stride if side > 1 else 1 for side in full.shape]
    spread = full.std() if full.size > 64 else np.sqrt((full.astype(float) ** 2).mean())
    return {
        name: full[tuple(slice(None, None, step) for step in steps)],
        f"{name}__stride": np.array(steps),
        f"{name}__shape": np.array(full.shape),
        f"{name}__atol": np.array(1e-4 * spread),
    }


def sam_path(rule, image, keys, prefix, encoders):
    """What the file of one variant holds."""
    classes = [{"name": f"class {i}", "color": "#808080"} for i in range(1, CHANNELS)]
    spec = SamPathSpec.model_validate({"name": "x", "classes": classes, "mpp": 1, **encoders})
    model = build_model(spec)
    load_weights(model, from_published(weights(rule, keys), spec))
    pixels = normalised(image(SEED, *SIZE))
    features = model.features(functional.interpolate(pixels, (1024, 1024), mode="bilinear"))
    embedding = model.neck(features)
    output = model.decode(embedding)
    full = functional.interpolate(output.logits, SIZE, mode="bilinear", align_corners=False)
    labels = full[:, 1:].argmax(dim=1).numpy().astype(np.uint8) + 1
    out = {
        "labels_sub4": labels[:, ::4, ::4],
        "label_counts": np.bincount(labels.ravel(), minlength=CHANNELS + 1),
        "num_classes": np.array(CHANNELS),
        "image_hw": np.array(SIZE),
        "image_seed": np.array(SEED),
    }
    named = {"embedding": embedding, "logits_256": output.logits, "logits_full": full}
    for name, tensor in (named | {"iou": output.iou[..., None]}).items():
        out |= sampled(name, tensor)
    return {prefix + name: value for name, value in out.items()}


def hipt(rule, image, keys):
    encoder = VitEncoder(HIPT_VIT).eval()
    encoder.vit.load_state_dict(weights(rule, keys))
    pixels = Renormalise((IMAGENET_MEAN, IMAGENET_STD), (HALF, HALF))(
        normalised(image(SEED, 768, 768))
    )
    crop = pixels[..., 256:512, 512:768]
    return {
        **sampled("pos_embed_48x48", encoder.positions(48, 48)),
        **sampled("block00", encoder.vit.blocks[0](encoder.embed(pixels))),
        **sampled("tokens", encoder(pixels).permute(0, 2, 3, 1)),
        **sampled("cls_256", encoder.vit.norm(encoder.vit.blocks(encoder.embed(crop)))[:, 0]),
        "image_seed": np.array(SEED),
    }


def wsi_sam(rule, image, sam, net):
    """What the file of WSI-SAM beside MobileSAM holds."""
    spec = spec_of(WsiSamSpec, "vit_tiny", compat={"floored_boxes": True})
    state = {f"sam.{name}": one for name, one in weights(rule, sam).items()}
    for part in ("high", "low"):
        learned = {key: (name, shape) for key, (name, shape) in net.items() if "{net}" in name}
        for key, (name, shape) in learned.items():
            value = rule(name.format(net=f"net_{part}"), shape, SALT)
            state[f"{part}.{key}"] = torch.from_numpy(np.asarray(value))
    model = build_model(spec)
    load_weights(model, {name: state[name] for name in model.state_dict()})
    seeds = {f"{side}_seed": np.array(SEED + i) for i, side in enumerate(SIDES)}
    images = [torch.from_numpy(image(int(seed), 1024, 1024))[None] for seed in seeds.values()]
    box = np.array([300, 41, 977, 700])
    prompts = Prompts(boxes=torch.from_numpy(box[None]).float())
    said = everything(model, [model.preprocess(one) for one in images], prompts)
    out = {**seeds, "box": box}
    for name, tensor in said.items():
        out |= sampled(name, tensor)
    return out


def losses_and_metrics():
    rng = np.random.default_rng(SEED)
    out = {}
    for case, channels in {"bcss_a": 4, "bcss_b": 4, "crag_a": 3}.items():
        data = case.split("_")[0]
        focal, dice, entropy, iou = COEFFICIENTS[data]
        logits = torch.from_numpy(rng.standard_normal((2, channels, 24, 20), np.float32))
        target = rng.integers(0, channels, (2, 24, 20), dtype=np.uint8)
        guess = torch.from_numpy(rng.random((2, channels, 1), np.float32))
        parts = segmentation_loss(
            logits.requires_grad_(),
            torch.from_numpy(target),
            guess.requires_grad_()[..., 0],
            LossWeights(focal=focal, dice=dice, cross_entropy=entropy, iou=iou),
            paper_compatible=True,
        )
        parts.total.backward()
        values = {"loss": parts.total, "focal": parts.focal, "dice": parts.dice}
        values |= {"iou": parts.iou, "ce": parts.cross_entropy}
        values |= {"logits": logits, "iou_pred": guess}
        values |= {"grad_logits": logits.grad, "grad_iou_pred": guess.grad}
        stored = {name: value.detach().numpy() for name, value in values.items()}
        out |= {
            f"loss_{case}/{name}": value for name, value in (stored | {"target": target}).items()
        }
    for data, channels in {"bcss": 4, "crag": 3}.items():
        truth, predicted = rng.integers([[[0]], [[1]]], channels, (2, 40, 30), dtype=np.uint8)
        scores = paper_scores(truth, predicted, channels, 1 if data == "crag" else None)
        out |= {f"metric_{data}/target": truth, f"metric_{data}/pred": predicted}
        out |= {f"metric_{data}/{name}": np.array(value) for name, value in scores.items()}
        warm_up, drops, steps = SCHEDULES[data]
        rates = [learning_rate(i, 1e-4, warm_up=warm_up, drops=drops) for i in range(steps)]
        out[f"schedule_{data}"] = np.array(rates)
    return out


def make(folder, *, full=False):
    """Write the folder; `full` adds HIPT alone, WSI-SAM, variants with SAM's encoder: a minute."""
    folder.mkdir(exist_ok=True)
    for name in ("weights.py", "compare.py"):
        shutil.copy(GIVEN / name, folder)
    given = json.loads((GIVEN / "keys.json").read_text())
    keys = {
        f"sampath_{variant}_C{CHANNELS}": keys_for(
            given[f"sampath_{variant}_C6"], CHANNELS, full=full
        )
        for variant in ("full", "wo_fp", "wo_fs")
    }
    for name in ("hipt_vits16", "sam_vit_t", "wsisam_net_vit_t"):
        keys[name] = given[name]
    (folder / "keys.json").write_text(json.dumps(keys))
    rules = runpy.run_path(str(folder / "weights.py"))
    rule, image = rules["weight"], rules["image"]
    wanted = {"wo_fs": {"pathology": "hipt_vits16"}} | ({"wo_fp": {"sam": "vit_b"}} if full else {})
    with torch.no_grad():
        ablation = {}
        for variant, encoders in wanted.items():
            of_variant = keys[f"sampath_{variant}_C{CHANNELS}"]
            ablation |= sam_path(rule, image, of_variant, f"{variant}/", encoders)
        contents = {"sampath_ablation": ablation}
        if full:
            both = {"sam": "vit_b", "pathology": "hipt_vits16"}
            of_full = keys[f"sampath_full_C{CHANNELS}"]
            contents["sampath_bcss"] = sam_path(rule, image, of_full, "", both)
            contents["hipt_vits16"] = hipt(rule, image, keys["hipt_vits16"])
            nets = (keys["sam_vit_t"], keys["wsisam_net_vit_t"])
            contents["wsisam_vit_t"] = wsi_sam(rule, image, *nets)
    contents["sampath_loss_metrics"] = losses_and_metrics()
    for name, content in contents.items():
        np.savez(folder / f"{name}.npz", salt=np.array(SALT), format=np.array(1), **content)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    make(options.folder, full=options.full)
