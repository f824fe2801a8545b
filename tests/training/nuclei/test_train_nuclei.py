"""A small PathoSAM is trained: each objective, from each kind of weights, stopped and resumed."""

import csv

import pytest
import torch
from nucleus_patches import TINY, TYPED, paint_nuclei, write_config
from safetensors import safe_open

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.models.checkpoints import build_model, save_checkpoint
from wsi_sampath.models.parse import parse_spec
from wsi_sampath.models.patho_sam.start import random_patho_sam
from wsi_sampath.models.zoo import load_model
from wsi_sampath.training.configuration import read_settings
from wsi_sampath.training.train import train

DECODER = ("trainable=decoder", "prompting=null")
CLASSES = ("objective=classes", *DECODER, "classes=data")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return paint_nuclei(tmp_path_factory.mktemp("painted") / "data")


@pytest.fixture
def settings(tmp_path, data):
    def build(out, *more, model=TINY, **changes):
        path = write_config(tmp_path, model, **changes)
        return read_settings(path, [f"data={data}", f"out={tmp_path / out}", *more])

    return build


def weights(path):
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def quiet(_line):
    pass


def rows(trained):
    with (trained.model.parent / "curve.csv").open() as file:
        return [*csv.DictReader(file)]


def built(values, seed=3):
    torch.manual_seed(seed)
    return build_model(parse_spec(values))


def test_stopped_and_resumed_it_ends_with_the_same_weights(settings):
    whole = train(settings("whole", "store=fp32"), quiet)

    def stop(line):
        if line.startswith("epoch 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings("begun", "store=fp32"), stop)
    said = []
    resumed = train(settings("begun", "store=fp32"), said.append)
    assert any(line.endswith("resumes after epoch 1") for line in said)
    one, other = weights(whole.model), weights(resumed.model)
    assert changed(one, other) == set()
    names = changed(random_patho_sam(parse_spec(TINY), seed=0).state_dict(), one)
    for part in ("sam.image_encoder", "sam.prompt_encoder", "sam.mask_decoder", "decoder"):
        assert any(name.startswith(f"{part}.") for name in names), part
    assert whole.result == resumed.result
    # Three patches make two batches an epoch, and each two steps.
    assert whole.result["steps"] == 8
    assert whole.result["kept"] == "best validation loss"
    last = rows(whole)[-1]
    total = float(last["val_prompts"]) + float(last["val_nuclei"]) / 3
    assert float(last["val_loss"]) == pytest.approx(total, abs=1e-6)
    best = min(float(row["val_loss"]) for row in rows(whole))
    assert whole.result["validation_loss"] == pytest.approx(best, abs=1e-6)
    loaded = load_model(whole.model)
    assert loaded.spec.classes[0].name == "nucleus"
    assert "from random weights in" in loaded.warnings[0]


def test_the_decoder_alone(tmp_path, settings):
    before = save_checkpoint(built(TINY), tmp_path / "m.safetensors", dtype=torch.float32)
    given = settings("run", f"model={before}", *DECODER, "epochs=1", "store=fp32")
    trained = train(given, quiet)
    names = changed(weights(before), weights(trained.model))
    assert all(name.startswith("decoder.") for name in names)
    assert any("running_mean" in name for name in names)
    assert "val_prompts" not in rows(trained)[0]
    again = load_model(trained.model)
    assert "Fine-tuned from tiny" in again.spec.description
    assert again.warnings == ()


@pytest.mark.parametrize("how", ["random", "nuclei"])
def test_classes_beside_a_trained_decoder(tmp_path, settings, how):
    before = save_checkpoint(built(TINY), tmp_path / "m.safetensors", dtype=torch.float32)
    more = (*CLASSES, f"weights={before}", f"class_start={how}", "store=fp32", "epochs=1")
    tiny = ("optimiser.learning_rate=1e-12",) if how == "nuclei" else ()
    trained = train(settings("run", *more, *tiny, model=TYPED), quiet)
    old, new = weights(before), weights(trained.model)
    assert changed(old, new) == set()
    assert [one.name for one in load_model(trained.model).spec.classes] == ["dark", "red"]
    assert new["class_decoder.out_conv.weight"].shape[0] == 3
    same = torch.allclose(
        new["class_decoder.base.block.1.weight"], old["decoder.base.block.1.weight"]
    )
    assert same == (how == "nuclei")
    assert {"val_dice/dark", "val_dice/red", "val_macro_dice"} <= rows(trained)[0].keys()
    assert "from random weights in" in load_model(trained.model).warnings[0]


def test_classes_are_learned(settings):
    more = (*CLASSES, "epochs=3", "optimiser.learning_rate=1e-2", "batch_size=1")
    found = rows(train(settings("run", *more, model=TYPED), quiet))
    losses = [float(row["train_classes"]) for row in found]
    assert losses[-1] < losses[0] - 0.05


def test_from_published_files(tmp_path, settings):
    model = built(TYPED)
    for name in ("sam", "decoder", "class_decoder"):
        torch.save(getattr(model, name).state_dict(), tmp_path / f"{name}.pt")
    files = f"weights={{sam: {tmp_path}/sam.pt, decoder: {tmp_path}/decoder.pt"
    still = ("epochs=1", "store=fp32", "optimiser.learning_rate=1e-12", "allow_random_weights=0")
    given = settings(
        "run",
        *CLASSES,
        *still,
        f"{files}, class_decoder: {tmp_path}/class_decoder.pt}}",
        model=TYPED,
    )
    trained = train(given, quiet)
    after = weights(trained.model)
    for name, tensor in model.state_dict().items():
        if "running_" not in name and "num_batches" not in name:
            assert torch.allclose(after[name], tensor, atol=1e-6), name
    assert set(trained.result["training"]["start"]) == {"sam", "decoder", "class_decoder"}
    assert load_model(trained.model).warnings == ()
    with pytest.raises(WsiError, match=r"sam\.pt: bad-model"):
        train(settings("other", f"weights={{sam: {tmp_path}/sam.pt, decoder: {tmp_path}/sam.pt}}"))


def test_the_rate_falls_where_validation_does_not_improve(settings):
    still = ("optimiser.learning_rate=1e-12", "optimiser.patience=1", "epochs=3", *DECODER)
    trained = train(settings("run", *still, keep="last"), quiet)
    rates = [float(row["learning_rate"]) for row in rows(trained)]
    assert rates[0] == pytest.approx(1e-12)
    assert rates[-1] == pytest.approx(0.9e-12)
    assert trained.result["kept"] == "last epoch"


def test_what_does_not_go_together(tmp_path, settings, data):
    untyped = paint_nuclei(tmp_path / "untyped", typed=False, mpp=None)
    masks = tmp_path / "masks"
    (masks / "img").mkdir(parents=True)
    for path in data.glob("*.*"):
        (masks / path.name).write_bytes(path.read_bytes())
    for path in (data / "img").iterdir():
        (masks / "img" / path.name).write_bytes(path.read_bytes())
    (masks / "mask").mkdir()
    for path in (data / "type").iterdir():
        (masks / "mask" / path.name).write_bytes(path.read_bytes())
    sam_path = {"name": "a", "classes": TINY["classes"], "mpp": 1.0, "sam": TINY["sam"]}
    for more, model, said in (
        ((f"data={masks}",), TINY, "has no nuclei"),
        ((*CLASSES[:3], f"data={untyped}"), TYPED, "no classes of nuclei"),
        (CLASSES[:3], TINY, "no decoder of classes"),
        ((), sam_path, "is not a PathoSAM"),
        (("classes=data",), TINY, "needs class_decoder: true"),
        (("allow_random_weights=false",), TINY, "weights.sam=FILE"),
        (CLASSES[:3], TYPED | {"classes": TYPED["classes"][:1]}, "classes=data"),
    ):
        with pytest.raises((UsageError, WsiError), match=said) as caught:
            train(settings("run", *more, model=model), quiet)
        assert "\n" not in caught.value.line()
    said = []
    trained = train(settings("run", f"data={untyped}", "epochs=1", *DECODER), said.append)
    assert any(
        line.startswith("warning: the pixel size of the patches is unknown") for line in said
    )
    assert "0.25 um per pixel assumed" in load_model(trained.model).spec.training_data
