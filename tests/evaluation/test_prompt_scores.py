"""Answers to prompts are scored: the prompts themselves, the protocols, and the command."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from command_line import ended
from PIL import Image
from prompt_stub import DiscPrompts, coloured, disc_model, disc_picture
from torch import nn

from wsi_sampath.classes import ClassSpec
from wsi_sampath.cli import evaluate
from wsi_sampath.data.context import in_context
from wsi_sampath.data.patches import Patch, write_classes, write_table
from wsi_sampath.evaluation import prompts as prompt_scores
from wsi_sampath.evaluation.drawn_prompts import degraded_masks, scattered_points, shaken_boxes
from wsi_sampath.evaluation.prompt_scores import summarise_prompts
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.spec import ModelSpec

SIDE = 64
DISC = ClassSpec(name="disc", color="#c83264")


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def masks():
    found = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    found[0, 20:30, 10:50] = True
    found[1, 0, 0] = True
    return found


def test_boxes_are_shaken_by_so_much_and_stay_boxes(masks, generator):
    boxes = torch.stack([shaken_boxes(masks, generator) for _ in range(200)])
    assert (boxes[..., 2:] - boxes[..., :2] >= 0.999).all()
    assert (boxes.amin(), boxes.amax() <= SIDE) == (0, True)
    large = boxes[:, 0]
    size, centre = large[:, 2:] - large[:, :2], (large[:, 2:] + large[:, :2]) / 2
    true_size, true_centre = torch.tensor([40.0, 10.0]), torch.tensor([30.0, 25.0])
    assert ((size / true_size - 1).abs() <= 0.2001).all()
    assert ((centre - true_centre).abs() <= 0.1001 * true_size).all()
    assert (size / true_size).std(dim=0).min() > 0.08


def test_points_are_in_their_masks(masks, generator):
    points = scattered_points(masks, 10, generator)
    x, y = points.long().unbind(-1)
    assert masks[torch.arange(2)[:, None], y, x].all()
    assert len(points[0].unique(dim=0)) > 5


def test_masks_are_wrong_at_their_edges_alone(generator):
    truth = torch.zeros(1, 256, 256, dtype=torch.bool)
    truth[0, 60:190, 80:200] = True
    prompt = degraded_masks(truth, 64, generator)
    assert prompt.shape == (1, 1, 64, 64)
    assert prompt.unique().tolist() == [-10, 10]
    wrong = (prompt[0, 0] > 0) != truth[0, 2::4, 2::4]
    assert 0.002 < wrong.float().mean() < 0.2
    assert not wrong[:8].any()
    assert not wrong[28:34, 32:38].any()


def test_scores_of_known_overlaps():
    ious = {
        "a": {"box": np.array([1.0, 0.6, 0.0])},
        "b": {"box": np.array([1.0, 0.8, 0.0])},
    }
    found = summarise_prompts(ious, ["p", "p", "q"], draws=50)
    score = found["scores"]["a"]["box"]
    assert score["iou"] == pytest.approx(1.6 / 3)
    assert score["dice"] == pytest.approx((1 + 1.2 / 1.6) / 3)
    # Three thresholds are reached by two of three, seven by one; a miss counts twice.
    assert score["msa"] == pytest.approx((3 * 2 / 4 + 7 * 1 / 5) / 10)
    assert score["iou_ci"][0] < score["iou"] < score["iou_ci"][1]
    change = found["differences"]["b - a"]["box"]
    assert change["dice"] == pytest.approx((1.6 / 1.8 - 1.2 / 1.6) / 3)
    assert summarise_prompts(ious, ["p", "p", "p"])["scores"]["a"]["box"]["dice_ci"] is None


class Twice(nn.Module):
    """Answers from the context, and has a SAM that answers from the patch."""

    def __init__(self):
        super().__init__()
        self.sam = DiscPrompts()

    def preprocess(self, tiles):
        return self.sam.preprocess(tiles)

    def embed(self, views):
        near, wide = views
        assert near.shape == wide.shape == (1, 3, SIDE, SIDE)
        return near, wide

    def masks(self, embedding, prompts, *, multimask=True):
        low = prompts.scaled(0.5)
        moved = type(low)(
            None if low.points is None else low.points + SIDE / 4,
            low.labels,
            None if low.boxes is None else low.boxes + SIDE / 4,
        )
        logits, quality = self.sam.masks(embedding[1:], moved, multimask=multimask)
        middle = logits[..., SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4]
        return middle, quality


class TwiceSpec(ModelSpec):
    views = (1.0, 2.0)


def twice_model():
    spec = TwiceSpec(name="twice", architecture="discs", classes=(DISC,), mpp=0.25, tile=SIDE)
    return LoadedModel(Twice().eval(), spec, "1" * 64, "twice")


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def patches(root, *, context):
    """Patches of two cases; discs as areas of a class in their context, or as instances."""
    count = 4 if context else 2
    for number in range(count):
        discs = disc_picture(2 * SIDE, 2 * SIDE, step=32, radius=(9, 11), seed=number)
        labels = (discs > 0).astype(np.uint8)
        if context:
            # Colours of whole blocks, so that they are the same in the context.
            discs = discs[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
            both = in_context(coloured(discs), (discs > 0).astype(np.uint8))
            write(root / "img" / f"i{number}.png", both.image)
            write(root / "mask" / f"i{number}.png", both.labels)
            write(root / "context" / f"i{number}.png", both.context)
            write(root / "context_mask" / f"i{number}.png", both.context_labels)
        else:
            write(root / "img" / f"i{number}.png", coloured(discs))
            write(root / "inst" / f"i{number}.png", discs.astype(np.uint16))
            write(root / "type" / f"i{number}.png", labels)
    write_classes(root, [DISC], 0.25)
    write_table(root, [Patch(f"i{n}", -1, f"case{n % 2}") for n in range(count)])
    return root


@pytest.fixture
def score(monkeypatch, capsys):
    """Run the command with stubs for models; exit code, JSON, stdout, stderr."""
    models = {"discs": disc_model(SIDE, network=DiscPrompts()), "twice": twice_model()}
    monkeypatch.setattr(prompt_scores, "load_model", lambda name, **_more: models[name])

    def call(root, *words):
        out = root.parent / "out.json"
        words = ("prompts", root, "--json", out, "--device", "cpu", "--bootstrap", 50, *words)
        code = ended(monkeypatch, evaluate.main, "wsi-evaluate", *words)
        said = capsys.readouterr()
        found = json.loads(out.read_text()) if code == 0 else None
        return code, found, said.out, said.err

    return call


def test_every_click_on_a_disc_finds_it(score, tmp_path):
    root = patches(tmp_path / "data", context=False)
    code, found, said, told = score(root, "--model", "discs", "--min-size-px", 150)
    assert code == 0, told
    # 128 px are four squares of the network's tile.
    assert found["square_px"] == SIDE
    assert (found["protocol"], found["cases"], found["patches"]) == ("clicks", 2, 2)
    kinds = found["scores"]["discs"]
    assert list(kinds) == [f"{a}, {n}" for a in ("point", "box") for n in range(1, 9)]
    assert kinds["point, 1"]["iou"] == kinds["box, 8"]["msa"] == 1
    assert "paper" not in found
    assert f"{found['objects']} objects (each by itself) in 2 patches of 2 cases; clicks" in said


def test_zero_shot_beside_the_frozen_sam_and_the_paper(score, tmp_path):
    root = patches(tmp_path / "data", context=True)
    code, found, said, told = score(root, "--model", "discs", "--against", "twice")
    assert code == 0, told
    assert list(found["scores"]) == ["discs", "twice", "twice, frozen SAM"]
    assert list(found["scores"]["twice"]) == ["box", "3 points", "5 points", "10 points"]
    # The same prompts for all: the frozen SAM is the very network of the first row.
    assert found["scores"]["twice, frozen SAM"] == found["scores"]["discs"]
    assert found["scores"]["discs"]["3 points"]["dice"] > 0.95
    # It answers from half as many pixels, but of the right place.
    assert found["scores"]["twice"]["3 points"]["dice"] > 0.85
    change = found["differences"]["twice - discs"]["box"]["dice"]
    told = found["scores"]["twice"]["box"]["dice"] - found["scores"]["discs"]["box"]["dice"]
    assert change == pytest.approx(told)
    assert found["paper"]["box"]["CAMELYON16"]["WSI-SAM"] == 82.54
    assert "paper, DCIS" in said
    again = score(root, "--model", "twice", "--objects", "disc")[1]
    assert again["scores"]["twice"] == found["scores"]["twice"]


def test_all_of_a_patch_together(score, tmp_path):
    root = patches(tmp_path / "data", context=True)
    code, found, _, told = score(root, "--model", "discs", "--paper-compatible")
    assert code == 0, told
    assert (found["objects"], found["object"]) == (4, "all of a patch together")
    # A network that sees one disc where four are meant.
    assert found["scores"]["discs"]["3 points"]["iou"] < 0.7


@pytest.mark.parametrize(
    ("words", "context", "said"),
    [
        (("--model", "twice"), False, "has no context, which twice looks at"),
        (("--model", "discs", "--against", "discs"), True, "a model is named twice"),
        (("--model", "discs", "--objects", "tumor"), True, "no class tumor; the data have disc"),
        (("--model", "discs", "--objects", "disc"), False, "nuclei are objects as they are"),
        (("--model", "discs", "--min-size-px", 9999), True, "holds no object to ask for"),
        (("--model", "discs", "--split", "train"), True, "the train split is empty"),
        (("--model", "discs", "--protocol", "all"), True, "--protocol"),
    ],
)
def test_what_cannot_be_scored_is_one_line(score, tmp_path, words, context, said):
    root = patches(tmp_path / "data", context=context)
    code, _, _, told = score(root, *words)
    lines = [line for line in told.strip().splitlines() if not line.startswith("patches")]
    assert code == 2
    assert len(lines) == 1
    assert said in lines[0]
