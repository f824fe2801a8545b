import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from training_stub import CLASSES, TINY, paint_patches, write_config

from wsi_sampath.data.patches import open_patches
from wsi_sampath.data.prepare import plan_patches, prepare
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.evaluation.metrics import confusion
from wsi_sampath.evaluation.scores import overlaps
from wsi_sampath.models.checkpoints import build_model, save_checkpoint
from wsi_sampath.models.described import PROVENANCE_KEY
from wsi_sampath.models.sam import Sam
from wsi_sampath.models.sam_path.spec import SamPathSpec
from wsi_sampath.models.zoo import load_model
from wsi_sampath.training.configuration import read_settings
from wsi_sampath.training.initial_weights import spec_for
from wsi_sampath.training.run_folder import RunFolder, held
from wsi_sampath.training.train import train

LONGEST_WAIT_S = 120
GIVEN = ("data=d", "out=o")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return paint_patches(tmp_path_factory.mktemp("painted") / "data")


@pytest.fixture
def settings(tmp_path, data):
    def build(out="run", *more, **changes):
        path = write_config(tmp_path, **changes)
        return read_settings(path, [f"data={data}", f"out={tmp_path / out}", *more])

    return build


def weights(path):
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def same(one, other):
    one, other = weights(one), weights(other)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def quiet(_line):
    pass


def test_killed_and_resumed_it_ends_with_the_same_weights(tmp_path, data, settings):
    whole = train(settings("whole", "epochs=8"), quiet)
    config = tmp_path / "train.yaml"
    out = tmp_path / "killed"
    words = [config, f"data={data}", f"out={out}", "epochs=8"]
    begun = subprocess.Popen(
        [sys.executable, "-m", "wsi_sampath.cli.train", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + LONGEST_WAIT_S
    while not (out / "last.ckpt").is_file() and begun.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.005)
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    assert not (out / "model.safetensors").exists()
    said = []
    resumed = train(settings("killed", "epochs=8"), said.append)
    assert any("resumes after epoch" in line for line in said)
    assert len([line for line in said if "loss" in line]) < 8
    assert same(whole.model, resumed.model)
    assert whole.result == resumed.result
    assert (whole.model.parent / "curve.csv").read_text() == (out / "curve.csv").read_text()


def test_an_interrupted_folder_may_be_moved(tmp_path, settings):
    whole = train(settings("whole", "epochs=4"), quiet)

    def stop(line):
        if line.startswith("epoch 3"):
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(settings("begun", "epochs=4"), stop)
    assert signal.getsignal(signal.SIGINT) == before
    (tmp_path / "begun").rename(tmp_path / "moved")
    said = []
    moved = train(settings("moved", "epochs=4"), said.append)
    assert f"{tmp_path / 'moved'}: resumes after epoch 2" in said
    assert same(whole.model, moved.model)
    assert whole.result["validation_macro_dice"] == moved.result["validation_macro_dice"]


def test_the_model_file_says_what_it_is(settings):
    trained = train(settings("run", "epochs=1", "name=mine"), quiet)
    loaded = load_model(trained.model)
    assert loaded.spec.name == "mine"
    assert "6 train, 3 validation" in loaded.spec.training_data
    assert loaded.weights_sha256 == trained.result["weights_sha256"]
    with safe_open(trained.model, framework="pt") as file:
        provenance = json.loads(file.metadata()[PROVENANCE_KEY])
    assert provenance["training"]["settings"]["epochs"] == 1
    assert provenance["training"]["start"] == "random"
    root = trained.model.parent
    assert (root / "pictures" / "epoch_001.png").is_file()
    assert [*(root / "tensorboard").glob("events.*")]
    rows = [*csv.DictReader((root / "curve.csv").open())]
    assert float(rows[0]["val_macro_dice"]) == pytest.approx(
        trained.result["validation_macro_dice"], abs=1e-6
    )


def test_the_best_epoch_is_kept(settings):
    trained = train(settings("run", "epochs=4"), quiet)
    rows = [*csv.DictReader((trained.model.parent / "curve.csv").open())]
    scores = [float(row["val_macro_dice"]) for row in rows]
    assert trained.result["epoch"] == int(np.argmax(scores)) + 1


def test_paper_compatible_keeps_the_last_epoch(settings):
    trained = train(settings("run", "epochs=2", "paper_compatible=true"), quiet)
    assert (trained.result["kept"], trained.result["epoch"]) == ("last epoch", 2)


def test_a_finished_training_is_left_alone(settings):
    first = train(settings("run", "epochs=1"), quiet)
    before = first.model.stat().st_mtime_ns
    said = []
    again = train(settings("run", "epochs=1"), said.append)
    assert (again.result, again.model.stat().st_mtime_ns, said) == (first.result, before, [])
    with pytest.raises(UsageError, match=r"epochs was 1, now 2"):
        train(settings("run", "epochs=2"), quiet)


def test_it_stops_early(settings):
    still = ("optimiser.learning_rate=1e-12", "patience=2", "epochs=9")
    assert train(settings("run", *still), quiet).result["epochs"] == 3


def test_stopped_early_it_stays_stopped(tmp_path, data):
    """Killed after the last epoch and before the model was written, it only finishes."""
    config = write_config(tmp_path)
    still = ("optimiser.learning_rate=1e-12", "patience=2", "epochs=9")
    given = read_settings(config, [f"data={data}", f"out={tmp_path / 'run'}", *still])
    whole = train(given, quiet)
    before = whole.model.read_bytes()
    whole.model.unlink()
    (tmp_path / "run" / "result.json").unlink()
    said = []
    again = train(given, said.append)
    assert said[-1].endswith("resumes after epoch 3")
    assert again.result == whole.result
    assert again.model.read_bytes() == before


def test_a_validation_rarer_than_there_are_epochs(settings):
    trained = train(settings("run", "epochs=2", "validate_every=5"), quiet)
    assert trained.result["epoch"] == 2
    assert trained.result["validation_macro_dice"] is not None


def test_other_data_under_the_same_names_is_noticed(tmp_path):
    data = paint_patches(tmp_path / "data")
    config = write_config(tmp_path, epochs=1)
    given = read_settings(config, [f"data={data}", f"out={tmp_path / 'run'}"])
    train(given, quiet)
    for change in (swap_labels, fill_image):
        before = change(data)
        with pytest.raises(UsageError, match="other data"):
            train(given, quiet)
        for path, content in before.items():
            path.write_bytes(content)
    assert train(given, quiet).result["epoch"] == 1


def swap_labels(data):
    path = data / "mask" / "i0.png"
    before = path.read_bytes()
    mask = np.asarray(Image.open(path))
    Image.fromarray(np.where(mask, 3 - mask, 0).astype(np.uint8)).save(path)
    return {path: before}


def fill_image(data):
    path = data / "img" / "i0.png"
    before = path.read_bytes()
    Image.new("RGB", (72, 72), "white").save(path)
    return {path: before}


def test_the_data_may_be_renamed(tmp_path):
    data = paint_patches(tmp_path / "data")
    config = write_config(tmp_path, epochs=1)
    first = train(read_settings(config, [f"data={data}", f"out={tmp_path / 'run'}"]), quiet)
    moved = data.rename(tmp_path / "renamed")
    again = train(read_settings(config, [f"data={moved}", f"out={tmp_path / 'run'}"]), quiet)
    assert again.result == first.result


def test_a_failed_start_may_be_mended_in_the_same_folder(settings):
    with pytest.raises(WsiError, match="loss of epoch 1"):
        train(settings("run", "optimiser.learning_rate=1e30", "optimiser.warm_up=0"), quiet)
    trained = train(settings("run", "epochs=1"), quiet)
    assert trained.result["epoch"] == 1
    (trained.model.parent / "last.ckpt").unlink()
    with pytest.raises(UsageError, match=r"epochs was 1, now 2"):
        train(settings("run", "epochs=2"), quiet)


def test_a_model_that_could_not_be_read_back_is_not_trained(tmp_path, data):
    spec = spec_for(read_settings(write_config(tmp_path), GIVEN), open_patches(data))
    assert [one.name for one in spec.classes] == ["other", "gland"]
    twice = replace(open_patches(data), classes=(CLASSES[1], CLASSES[1]))
    for wrong, patches in (("name=''", open_patches(data)), ("classes=data", twice)):
        with pytest.raises(UsageError, match=r"tiny\.yaml: bad-input"):
            spec_for(read_settings(write_config(tmp_path), [*GIVEN, wrong]), patches)


def test_published_training_with_kept_features(settings):
    """Frozen encoders; features kept on disk in full precision change nothing."""
    shared = ("trainable=decoder", "augmentation.variants=2", "epochs=2", "store=fp32")
    kept = ("cache_features=true", "cache_precision=fp32")
    plain = train(settings("plain", *shared, "cache_precision=fp32"), quiet)
    said = []
    cached = train(settings("cached", *shared, *kept), said.append)
    assert any(line.startswith("features: ") for line in said)
    start = build_with_seed(0)
    one, other = weights(plain.model), weights(cached.model)
    for name, tensor in one.items():
        # A bias of all keys moves no softmax: its gradient is rounding alone, which Adam scales up.
        if not name.endswith("k_proj.bias"):
            assert torch.allclose(tensor, other[name], atol=1e-5), name
        if name.startswith(("sam_encoder.", "pathology_encoder.", "prompt_encoder.")):
            assert torch.equal(tensor, start[name]), name


def build_with_seed(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(SamPathSpec.model_validate(TINY)).state_dict()


def test_a_model_trained_from_random_weights_says_so_and_so_does_what_goes_on_from_it(settings):
    first = load_model(train(settings("first", "epochs=1", "name=mine"), quiet).model)
    assert first.spec.description.startswith("Trained from random weights on ")
    assert first.spec.description.endswith("; epoch 1 of 1")
    assert "from random weights in" in first.warnings[0]
    more = ("allow_random_weights=false", "epochs=1", "licence=CC0")
    second = load_model(train(settings("second", f"model={first.source}", *more), quiet).model)
    assert (
        "Fine-tuned from mine (licence not stated; trained from random" in second.spec.description
    )
    assert second.spec.licence == "CC0"
    assert "from random weights in" in second.warnings[0]


def test_a_model_that_goes_on_from_another_takes_over_no_claims(tmp_path, settings):
    claims = {"description": "of colon", "licence": "MIT", "training_data": "colons"}
    spec = SamPathSpec.model_validate(TINY | claims)
    base = save_checkpoint(build_model(spec), tmp_path / "m.safetensors")
    more = ("allow_random_weights=false", "epochs=1")
    trained = load_model(train(settings("run", f"model={base}", *more), quiet).model)
    assert "of colon" not in trained.spec.description
    assert f"Fine-tuned from {spec.name} (licence MIT) on " in trained.spec.description
    assert trained.spec.licence == ""
    assert trained.warnings == ()


def test_going_on_from_a_model_of_other_classes(tmp_path, settings):
    three = TINY | {"classes": [*TINY["classes"], {"name": "mucus", "color": "#3c64c8"}]}
    torch.manual_seed(1)
    before = save_checkpoint(
        build_model(SamPathSpec.model_validate(three)), tmp_path / "m.safetensors"
    )
    more = ("classes=data", "epochs=1", "trainable=decoder", "optimiser.learning_rate=1e-9")
    trained = train(settings("run", f"model={before}", "allow_random_weights=false", *more), quiet)
    assert [one.name for one in load_model(trained.model).spec.classes] == ["other", "gland"]
    old, new = weights(before), weights(trained.model)
    assert torch.equal(
        old["sam_encoder.patch_embed.proj.weight"], new["sam_encoder.patch_embed.proj.weight"]
    )


def test_a_trained_model_on_another_tile(tmp_path, settings):
    free = TINY | {"sam": TINY["sam"] | {"absolute_positions": False}}
    paths = [tmp_path / name for name in ("free.safetensors", "bound.safetensors")]
    for values, path in zip((free, TINY), paths, strict=True):
        save_checkpoint(build_model(SamPathSpec.model_validate(values)), path)
    more = ("epochs=1", "tile=96")
    trained = train(settings("run", f"model={paths[0]}", *more), quiet)
    assert load_model(trained.model).spec.tile == 96
    with pytest.raises(UsageError, match="tiles of 64 px alone"):
        train(settings("other", f"model={paths[1]}", *more), quiet)
    with pytest.raises(UsageError, match="multiple of 16"):
        train(settings("third", f"model={paths[0]}", "tile=97"), quiet)


def test_starting_from_published_encoders(tmp_path, settings):
    """Only the neck and the decoder change; the encoders in the file are those published."""
    values = {name: value for name, value in TINY.items() if name != "decoder"}
    spec = SamPathSpec.model_validate(values)
    torch.manual_seed(5)
    sam, vit = Sam(spec.sam, spec.tile), build_model(spec).pathology_encoder.encoder.vit
    torch.save(sam.state_dict(), tmp_path / "sam.pth")
    torch.save(
        {"teacher": {f"backbone.{k}": v for k, v in vit.state_dict().items()}},
        tmp_path / "dino.pth",
    )
    files = [f"weights.sam={tmp_path / 'sam.pth'}", f"weights.pathology={tmp_path / 'dino.pth'}"]
    spec.to_yaml(tmp_path / "published.yaml")
    files += [f"model={tmp_path / 'published.yaml'}", "trainable=decoder", "store=fp32", "epochs=1"]
    trained = train(settings("run", *files), quiet)
    found = weights(trained.model)
    for name, tensor in sam.state_dict().items():
        if name.startswith("image_encoder.") and ".neck." not in name:
            assert torch.equal(found[name.replace("image_encoder.", "sam_encoder.")], tensor)
    assert torch.equal(found["pathology_encoder.encoder.vit.pos_embed"], vit.pos_embed)
    iou_token = sam.state_dict()["mask_decoder.iou_token.weight"]
    assert not torch.equal(found["decoder.iou_token.weight"], iou_token)
    assert (found["decoder.iou_token.weight"] - iou_token).abs().max() < 0.1
    assert set(trained.result["training"]["start"]) == {"sam", "pathology"}


@pytest.mark.processes
def test_two_devices(tmp_path, data):
    """Two processes end with one model; the rows of the curve are those of both."""
    words = [write_config(tmp_path), f"data={data}", f"out={tmp_path / 'run'}", "devices=2"]
    done = subprocess.run(
        [sys.executable, "-m", "wsi_sampath.cli.train", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model.safetensors") == 1
    rows = [*csv.DictReader((tmp_path / "run" / "curve.csv").open())]
    assert [float(row["step"]) for row in rows] == [2, 4, 6]


def test_weights_must_come_from_somewhere(settings):
    with pytest.raises(UsageError, match=r"weights\.sam"):
        train(settings(allow_random_weights=False), quiet)


def test_a_folder_is_for_one_run_at_a_time(tmp_path, settings):
    with held(RunFolder(tmp_path / "run")), pytest.raises(WsiError, match="busy"):
        train(settings("run"), quiet)


def test_a_loss_that_is_no_number_stops_it(settings):
    with pytest.raises(WsiError, match=r"loss of epoch \d is (nan|inf)"):
        train(settings("run", "optimiser.learning_rate=1e30", "optimiser.warm_up=0"), quiet)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("number", [0, 7])
def test_a_patch_that_cannot_be_read_is_named(tmp_path, workers, number):
    data = paint_patches(tmp_path / "data")
    (data / "img" / f"i{number}.png").write_bytes(b"no picture")
    config = write_config(tmp_path, epochs=1)
    given = [f"data={data}", f"out={tmp_path / 'run'}", f"workers={workers}"]
    with pytest.raises(WsiError, match=rf"img/i{number}\.png: bad-input: cannot be read"):
        train(read_settings(config, given), quiet)


def test_devices_that_are_not_there(settings):
    for wrong in ("device=tpu", "device=cuda:99", "device=cpu:3", "devices=999"):
        with pytest.raises(UsageError):
            train(settings("run", wrong, *(["device=auto"] if "devices" in wrong else [])), quiet)


def test_two_epochs_on_real_glands_beat_guessing(tmp_path, data_folder):
    """A small network from random weights, against all background and against all gland."""
    data = prepared_ebhi(data_folder, tmp_path / "ebhi")
    config = write_config(tmp_path, epochs=2, batch_size=2)
    small_network().to_yaml(tmp_path / "tiny.yaml")
    how = ["augmentation.crop_scale=[0.5, 1]", "loss.dice=2"]
    how += ["optimiser={learning_rate: 1.0e-3, warm_up: 10, gradient_clip: 1}"]
    trained = train(read_settings(config, [f"data={data}", f"out={tmp_path / 'run'}", *how]), quiet)
    patches = open_patches(data)
    truth = np.concatenate([patches.read(one)[1].ravel() for one in patches.split("validation")])
    for label in (1, 2):
        counts = confusion(truth, np.full_like(truth, label), 2)
        guessed = float(np.nanmean(overlaps(counts)[0]))
        assert trained.result["validation_macro_dice"] > guessed + 0.1


def small_network():
    sizes = {
        "mpp": 2.3,
        "tile": 128,
        "sam": {
            "embed_dim": 48,
            "depth": 2,
            "num_heads": 2,
            "global_attn_indexes": [1],
            "window_size": 4,
        },
        "pathology": {"encoder": {"embed_dim": 32, "depth": 2, "num_heads": 2, "position_grid": 8}},
        "decoder": {"dim": 32, "depth": 2, "num_heads": 4, "mlp_dim": 64},
    }
    return SamPathSpec.model_validate(TINY | sizes)


def prepared_ebhi(data_folder, out):
    """Some patches of both folders, split by patient."""
    for kind in ("image", "label"):
        (out.parent / kind).mkdir()
    for name, step in (("ebhi_seg", 2), ("ebhi_seg_more", 16)):
        with (data_folder / name / "index.csv").open(newline="") as file:
            rows = [*csv.DictReader(file)][::step]
        for number, row in enumerate(rows):
            for kind in ("image", "label"):
                link = out.parent / kind / f"{row['patient']}_{name}_{number}.png"
                link.symlink_to(data_folder / name / row[kind])
    folders = ([out.parent / "image"], [out.parent / "label"])
    for _ in prepare(plan_patches(*folders, out, case=r"^(\d+)_", test=0.0)):
        pass
    return out
