"""A small WSI-SAM is trained: what it sees, what it is asked, and where it starts."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from small_sam import small_model, small_values
from torch.nn import functional

from wsi_sampath.classes import ClassSpec
from wsi_sampath.data.context import in_context
from wsi_sampath.data.patches import Patch, open_patches, write_classes, write_table
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.models.checkpoints import save_checkpoint
from wsi_sampath.models.network import Prompts
from wsi_sampath.models.parse import spec_from_yaml
from wsi_sampath.training.configuration import read_settings
from wsi_sampath.training.kinds import training_of
from wsi_sampath.training.prompts.asking import answer_loss, in_both, some_objects
from wsi_sampath.training.prompts.reader import PromptSample
from wsi_sampath.training.prompts.settings import PromptTrainSettings
from wsi_sampath.training.train import train

SIDE = 64
FOLDS = (1, 1, 1, 0, -1)
CLASSES = [ClassSpec(name="other", color="#9aa0a6"), ClassSpec(name="gland", color="#c83264")]
SPEC = small_values("wsi_sam", tile=SIDE)


def painted(number):
    """Dark discs on a light ground, of which those around the middle reach into the patch."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[: 2 * SIDE, : 2 * SIDE]
    labels = np.ones((2 * SIDE, 2 * SIDE), np.uint8)
    if number != 1:  # The second patch, and all around it, has no gland.
        for centre in ((40, 40), (40, 90), (90, 60), (10, 10)):
            row, column = centre + rng.uniform(-3, 3, 2)
            labels[np.hypot(y - row, x - column) < rng.uniform(12, 18)] = 2
    image = rng.normal(200, 8, (*labels.shape, 3)) - 110 * (labels == 2)[..., None]
    return in_context(image.clip(0, 255).astype(np.uint8), labels)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("glands")
    for number in range(len(FOLDS)):
        folders = ("img", "mask", "context", "context_mask")
        for folder, pixels in zip(folders, painted(number), strict=True):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"i{number}.png")
    write_classes(root, CLASSES, 1.0)
    write_table(root, [Patch(f"i{n}", fold, f"case{n}") for n, fold in enumerate(FOLDS)])
    return root


@pytest.fixture
def settings(tmp_path, data):
    def build(*more, spec=SPEC, **changes):
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(spec))
        values = {
            "model": "small.yaml",
            "objective": "prompts",
            "objects": ["gland"],
            "min_size_px": 20,
            "allow_random_weights": True,
            "epochs": 2,
            "workers": 0,
            "device": "cpu",
            "pictures": 0,
            "store": "fp32",
        }
        path = tmp_path / "train.yaml"
        path.write_text(yaml.safe_dump(values | changes))
        return read_settings(path, [f"data={data}", f"out={tmp_path / 'run'}", *more])

    return build


@pytest.fixture
def begun(settings, data):
    """Reader, task and one sample of a training."""

    def build(*more, version=0, index=0):
        training = training_of(settings(*more), open_patches(data))
        reader = training.reader()
        sample = reader(open_patches(data).patches[index], version)
        return training.task(1), PromptSample(*(part[None] for part in sample))

    return build


def weights(path):
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def quiet(_line):
    pass


def test_stopped_and_resumed_it_learns_what_is_to_be_learned(settings, tmp_path):
    whole = train(settings(), quiet)
    with (whole.model.parent / "curve.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert len({row["val_dice_frozen"] for row in rows}) == 1
    assert len({row["val_dice"] for row in rows}) == 2

    def stop(line):
        if line.startswith("epoch 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings(f"out={tmp_path / 'begun'}"), stop)
    resumed = train(settings(f"out={tmp_path / 'begun'}"), quiet)
    one, other = weights(whole.model), weights(resumed.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
    # One step for each patch that has an object, in every epoch.
    assert whole.result["steps"] == 2 * 2
    start = training_of(settings(), open_patches(settings().data)).start.model.state_dict()
    changed = {name for name in one if not torch.equal(one[name], start[name])}
    assert {name.split(".")[0] for name in changed} == {"high", "low"}
    # It goes on from what it has become.
    more = training_of(settings(f"model={whole.model}"), open_patches(settings().data)).start
    assert more.steps == 4
    assert all(torch.equal(more.model.state_dict()[name], one[name]) for name in one)


@pytest.mark.parametrize("version", [-1, *range(3)])
def test_both_views_are_changed_alike(begun, version):
    change = "{crop_scale: [1, 1], crop_ratio: [1, 1], rotate: 1, colour: 0.2, hue: 0.1}"
    _, sample = begun(f"augmentation={change}", version=version)
    near, wide = sample.views[0].float()
    middle = slice(SIDE // 4, -SIDE // 4)
    small = functional.avg_pool2d(near.movedim(-1, 0)[None], 2)[0].movedim(0, -1)
    # Both were rounded twice; a flip or another draw of colours would be far off.
    assert (wide[middle, middle] - small).abs().mean() < 3
    high, low = sample.objects[0]
    assert len(high.unique()) == 4
    for number in high.unique()[1:]:
        part = low == number
        inside = functional.avg_pool2d((high == number)[None].float(), 2)[0] > 0
        assert ((part[middle, middle] == inside).float().mean()) > 0.97
        assert part.sum() > inside.sum()  # It goes on outside.
    dark = near.mean(dim=-1) < near.mean()
    assert ((high > 0) == dark).float().mean() > 0.97


@pytest.mark.parametrize("kind", ["box", "points", "mask"])
def test_low_prompts_are_those_of_the_high_resolution(begun, kind):
    task, sample = begun()
    draw = torch.Generator().manual_seed(0)
    masks, images = some_objects(sample.objects, 9, draw)
    assert images.tolist() == [0, 0, 0]
    high, low = in_both(task.model, masks, kind, task.settings, draw)
    if kind == "points":
        assert torch.equal(low.points, high.points / 2 + SIDE / 4)
        x, y = low.points.long().unbind(-1)
        assert masks[1][torch.arange(3)[:, None], y, x].float().mean() > 0.9
    elif kind == "box":
        assert torch.equal(low.boxes, high.boxes / 2 + SIDE / 4)
        assert (high.boxes.amin(), high.boxes.amax() <= SIDE) == (0, True)
    else:
        quarter = SIDE // 16
        assert low.masks.shape == high.masks.shape == (3, 1, SIDE // 4, SIDE // 4)
        middle = low.masks[..., quarter:-quarter, quarter:-quarter]
        assert torch.allclose(middle, functional.avg_pool2d(high.masks, 2))
        assert (low.masks[..., :quarter, :] == high.masks.amin()).all()


def test_as_published_all_of_the_context_is_the_target(begun):
    task, sample = begun("paper_compatible=true")
    assert sample.objects.unique().tolist() == [0, 1]
    labels = painted(0)
    outside = (sample.objects[0, 1] > 0).sum()
    # The disc in the corner touches nothing of the patch.
    assert abs(int(outside) - int((labels.context_labels == 2).sum())) < 20
    draw = torch.Generator().manual_seed(0)
    masks, _ = some_objects(sample.objects, 9, draw)
    high, low = in_both(task.model, masks, "points", task.settings, draw)
    assert not torch.equal(low.points, high.points / 2 + SIDE / 4)
    x, y = low.points.long().unbind(-1)
    assert masks[1][0, y, x].all()


def test_the_loss_is_dice_and_cross_entropy_of_both(begun):
    task, sample = begun()
    masks, _ = some_objects(sample.objects, 9, torch.Generator().manual_seed(0))
    logits = torch.randn(2, 3, 1, SIDE // 4, SIDE // 4)

    class Fixed:
        def paired_logits(self, looks, high, low):
            return logits

    def single(answer, truth):
        at_size = functional.interpolate(answer, (SIDE, SIDE), mode="bilinear")[:, 0].double()
        p, t = at_size.sigmoid().numpy(), truth.numpy()
        both = (p**2).sum(axis=(1, 2)) + t.sum(axis=(1, 2))
        dice = 1 - 2 * (p * t).sum(axis=(1, 2)) / both
        return dice.mean() - np.where(t, np.log(p), np.log(1 - p)).mean()

    found = [
        float(answer_loss(Fixed(), None, masks, (Prompts(), Prompts()), share))
        for share in (1, 0, 0.5)
    ]
    high, low = (single(one, true) for one, true in zip(logits, masks, strict=True))
    assert found == pytest.approx([high, low, (high + low) / 2], rel=1e-5)


def test_it_learns_what_it_is_shown(begun):
    torch.manual_seed(0)
    task, sample = begun("kinds=[box]")
    chosen = [weight for weight in task.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(chosen, lr=1e-2)
    losses = []
    for _ in range(12):
        loss = task.loss(sample, 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.75 * losses[0]


def test_a_patch_without_objects_is_left_out_and_nothing_else_refused(begun, settings):
    task, sample = begun(index=1)
    assert task.loss(sample, 0) is None
    assert task.drawn(tuple(part[0] for part in sample))[1].max() == 0
    with pytest.raises(WsiError, match="no training patch holds an object of 9999 px"):
        train(settings("min_size_px=9999", "validate_every=2"), quiet)


def test_it_starts_beside_a_sam_of_any_trained_model(settings, data, tmp_path):
    sam, own = small_model("sam", tile=SIDE, seed=1), small_model("wsi_sam", tile=SIDE, seed=2)
    paths = [tmp_path / f"{name}.safetensors" for name in ("sam", "own")]
    for model, path in zip((sam, own), paths, strict=True):
        save_checkpoint(model, path, dtype=torch.float32)
    start = training_of(settings(weights={"sam": str(paths[0])}), open_patches(data)).start
    state = start.model.sam.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in sam.state_dict().items())
    assert (list(start.digests), start.steps) == (["sam"], 0)
    state = training_of(
        settings(weights=str(paths[1])), open_patches(data)
    ).start.model.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in own.state_dict().items())
    # The SAM of a model of another size, under its prefix.
    wrong = small_values("wsi_sam", tile=SIDE, prompts=SPEC["prompts"] | {"dim": 32})
    with pytest.raises(WsiError, match="bad-model"):
        training_of(settings(weights={"sam": str(paths[1])}, spec=wrong), open_patches(data))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["augmentation={crop_scale: [0.5, 1]}"], "a crop would move patch and context apart"),
        (["weights={sam: a, high: b}"], "give both or none"),
        (["kinds=[]"], "setting kinds"),
        (["boxshift=1"], "did you mean 'box_shift'"),
        (["batch_size=2", "trainable=all"], "setting trainable"),
        (["allow_random_weights=false"], "weights.sam=FILE"),
        (["objects=[tumor]"], "no class tumor; the data have other, gland"),
        (["model=gland-mini"], "is not a WSI-SAM"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_line(settings, data, more, said):
    with pytest.raises((UsageError, WsiError), match=said):
        training_of(settings(*more), open_patches(data)).reader()


def test_patches_without_a_context_are_refused(settings, data, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("img", "mask", "classes.yaml", "patches.csv"):
        (bare / name).symlink_to(data / name)
    with pytest.raises(UsageError, match="has nothing of what lies around its patches"):
        training_of(settings(), open_patches(bare)).reader()


def test_the_shipped_configuration_has_the_published_numbers():
    configs = Path(__file__).parents[3] / "configs"
    read = read_settings(configs / "train" / "wsi-sam.yaml", ["data=d", "out=o"])
    assert (read.epochs, read.batch_size, read.high_share, read.points) == (20, 1, 0.5, 10)
    assert (read.optimiser.learning_rate, read.optimiser.weight_decay) == (1e-3, 1e-2)
    assert (read.box_shift, read.box_resize) == (0.1, 0.2)
    assert read == PromptTrainSettings.model_validate(
        {"objective": "prompts", **read.model_dump(include={"model", "data", "out", "weights"})}
    )
    assert spec_from_yaml(read.model).architecture == "wsi_sam"
