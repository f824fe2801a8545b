import pytest
import yaml
from training_stub import write_config

from wsi_sampath.errors import UsageError
from wsi_sampath.training.configuration import read_settings
from wsi_sampath.training.settings import TrainSettings, deciding

GIVEN = ("data=d", "out=o")


def test_overrides_come_last(tmp_path):
    path = write_config(tmp_path)
    read = read_settings(path, [*GIVEN, "loss.iou=0", "optimiser.learning_rate=1e-5", "epochs=7"])
    assert (read.loss.iou, read.optimiser.learning_rate, read.epochs) == (0, 1e-5, 7)
    assert read.loss.dice == 0.75
    assert read.optimiser.warm_up == 2


def test_paths_of_a_file_are_beside_it(tmp_path, monkeypatch):
    path = write_config(tmp_path)
    monkeypatch.chdir("/")
    assert read_settings(path, GIVEN).model == str(tmp_path / "tiny.yaml")
    assert read_settings(path, [*GIVEN, "model=other.yaml"]).model == "other.yaml"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("epoch=3", "'epoch'; did you mean 'epochs'"),
        ("loss.dise=3", "'loss.dise'; did you mean 'loss.dice'"),
        ("augmentation.flop=1", "'augmentation.flop'; did you mean 'augmentation.flip'"),
        ("epochs=0", "setting epochs: "),
        ("epochs", "key=value"),
        (".a=3", "key=value"),
        ("epochs={", "not YAML"),
        ("cache_features=true", "cache_features needs"),
        ("keep=first", "setting keep"),
        ("learning_rate=3", "'learning_rate'; did you mean 'optimiser.learning_rate'"),
        ("optimiser.epochs=3", "'optimiser.epochs'; did you mean 'epochs'"),
        ("weights={sma: x}", "'weights.sma'; did you mean 'weights.sam'"),
        ("weights=3", "setting weights: "),
        ("weights={pathology: x}", "setting weights.sam is missing: add weights.sam="),
        ("seed=5000000000", "setting seed: "),
        ("loss.dice=-1", "setting loss.dice: "),
        ("augmentation.crop_scale=[1.0, 0.3]", "setting augmentation.crop_scale: "),
        ("augmentation.crop_scale=[0, 0]", "setting augmentation.crop_scale.0: "),
        ("augmentation.crop_ratio=[2, 1]", "setting augmentation.crop_ratio: "),
        ("optimiser.warm_up=.inf", "setting optimiser.warm_up: "),
    ],
)
def test_wrong_settings_are_told_in_one_line(tmp_path, override, said):
    with pytest.raises(UsageError) as raised:
        read_settings(write_config(tmp_path), [*GIVEN, override])
    assert said in raised.value.line()
    assert "\n" not in raised.value.line()


def test_missing_settings_and_files(tmp_path):
    with pytest.raises(UsageError, match="data=..."):
        read_settings(write_config(tmp_path), ["out=o"])
    with pytest.raises(UsageError, match="cannot be read"):
        read_settings(tmp_path / "none.yaml", GIVEN)


def test_a_base_is_changed_only_where_said(tmp_path):
    write_config(tmp_path)
    below = tmp_path / "below"
    below.mkdir()
    child = below / "child.yaml"
    child.write_text(yaml.safe_dump({"base": "../train.yaml", "loss": {"iou": 0.5}}))
    read = read_settings(child, GIVEN)
    assert (read.loss.iou, read.loss.dice, read.epochs) == (0.5, 0.75, 3)
    assert read.model == str(below / ".." / "tiny.yaml")


def test_what_is_made_is_beside_the_file_from_the_start(tmp_path, monkeypatch):
    write_config(tmp_path, out="run", cache_folder="kept", data="patches")
    monkeypatch.chdir("/")
    for _ in range(2):
        read = read_settings(tmp_path / "train.yaml")
        assert read.out == str(tmp_path / "run")
        assert read.cache_folder == str(tmp_path / "kept")
        (tmp_path / "run").mkdir(exist_ok=True)
    assert read_settings(tmp_path / "train.yaml", ["out=run"]).out == "run"


def test_a_base_that_is_its_own(tmp_path):
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{one}.yaml").write_text(f"base: {other}.yaml\n")
    with pytest.raises(UsageError, match="leads back"):
        read_settings(tmp_path / "a.yaml", GIVEN)


def test_the_defaults_are_the_papers():
    read = TrainSettings(model="m", data="d", out="o")
    assert (read.batch_size, read.accumulate, read.epochs) == (12, 2, 32)
    assert (read.optimiser.learning_rate, read.optimiser.weight_decay) == (1e-4, 1e-2)
    assert (read.optimiser.warm_up, read.optimiser.drops) == (72, (1800, 2088))
    assert (read.loss.focal, read.loss.dice, read.loss.iou) == (0.25, 0.75, 0.0625)


def test_where_files_are_decides_nothing():
    one, other = (TrainSettings(model="m", data="d", out=out) for out in "ab")
    assert deciding(one) == deciding(other)


def test_kept_features_are_rounded_and_so_decide():
    given = {"model": "m", "data": "d", "out": "o", "augmentation": None}
    one, other, moved = (
        deciding(TrainSettings(**given, cache_features=kept, cache_folder=folder))
        for kept, folder in ((False, None), (True, None), (True, "f"))
    )
    assert one != other == moved
