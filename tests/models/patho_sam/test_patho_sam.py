"""PathoSAM, a small one: maps, published files, and where it is refused."""

from types import SimpleNamespace

import pytest
import torch
from command_line import ended

from wsi_sampath.cli.models import main
from wsi_sampath.errors import WsiError
from wsi_sampath.evaluation.patch_predictor import PatchPredictor
from wsi_sampath.models.checkpoints import build_model, load_checkpoint, save_checkpoint
from wsi_sampath.models.parse import parse_spec
from wsi_sampath.models.patho_sam.importing import import_patho_sam
from wsi_sampath.models.zoo import describe_model, load_model
from wsi_sampath.training.initial_weights import spec_for

SMALL = {
    "name": "small",
    "architecture": "patho_sam",
    "classes": [{"name": "nucleus", "color": "#c83232"}],
    "mpp": 0.25,
    "tile": 64,
    "sam": {
        "embed_dim": 16,
        "depth": 1,
        "num_heads": 2,
        "global_attn_indexes": [0],
        "window_size": 3,
    },
    "decoder": {"widths": [16, 8, 4, 4]},
}
TYPES = [{"name": name, "color": "#808080"} for name in ("dead", "alive", "odd")]
TYPED = SMALL | {"classes": TYPES, "class_decoder": True}
CROPPED = SMALL | {"compat": {"cropped_skips": True}}


def built(values, seed=0):
    torch.manual_seed(seed)
    return build_model(parse_spec(values))


def tiles(count, side=64, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(40, 200, (count, side, side, 3), generator=rng, dtype=torch.uint8)


@pytest.fixture
def put(tmp_path):
    def write(content, name):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


def refusal(load, *args, **options):
    with pytest.raises(WsiError) as caught:
        load(*args, **options)
    assert caught.value.reason == "bad-model"
    assert "\n" not in caught.value.line()
    return caught.value.line()


@pytest.mark.parametrize(("values", "maps"), [(SMALL, 3), (CROPPED, 3), (TYPED, 7)])
@torch.no_grad()
def test_maps(values, maps):
    model = built(values)
    images = model.preprocess(tiles(2))
    assert model(images).shape == (2, maps, 128, 128)
    for side in (128, 64, 16):
        answer = model.maps(images, side)
        assert answer.shape == (2, maps, side, side)
        assert answer.dtype == torch.float32
        assert 0 <= answer.min() < answer.max() <= 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.maps(images, 64).dtype == torch.float32


@torch.no_grad()
def test_the_sigmoid_comes_before_the_resizing():
    model = built(SMALL)
    steps = torch.tensor([[-8.0, 8.0], [8.0, 8.0]]).repeat(64, 64)[None, None]
    model.forward = lambda _images: steps
    assert torch.allclose(model.maps(steps, 64), steps.sigmoid()[:, :, :2, :2].mean())


@pytest.mark.parametrize("batch_statistics", [False, True])
@torch.no_grad()
def test_a_tile_does_not_see_its_batch(batch_statistics):
    compat = {"batch_statistics": batch_statistics, "stretched_tiles": True}
    model = built(TYPED | {"compat": compat})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batch = tiles(3)
    together = model.maps(model.preprocess(batch), 64)
    for i in range(3):
        alone = model.maps(model.preprocess(batch[i : i + 1]), 64)
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-5)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_stretched_tiles():
    plain, stretching = built(SMALL), built(SMALL | {"compat": {"stretched_tiles": True}})
    levels = {
        model: (model.preprocess(tiles(1)) * model.std + model.mean) * 255
        for model in (plain, stretching)
    }
    assert 40 <= levels[plain].min().round() < levels[plain].max().round() < 200
    assert levels[stretching].amin((2, 3)).round().tolist() == [[0, 0, 0]]
    assert levels[stretching].amax((2, 3)).round().tolist() == [[255, 255, 255]]
    even = torch.full((1, 64, 64, 3), 7, dtype=torch.uint8)
    assert stretching.preprocess(even).isfinite().all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": TYPES}, "class_decoder: true"),
        ({"tile": 60}, "multiple of 8"),
        ({"compat": {"cropped_skip": True}}, "did you mean 'cropped_skips'"),
        ({"decoder": {"widths": [8, 4]}}, "decoder.widths"),
        ({"enlargement": 40}, "enlargement"),
        ({"tile": 8192}, "patches a side"),
        ({"pathology": "hipt_vits16"}, "unknown key 'pathology'"),
    ],
)
def test_wrong_specifications(changes, said):
    assert said in refusal(parse_spec, SMALL | changes, "a.yaml")


@pytest.mark.parametrize("values", [SMALL, CROPPED, TYPED])
def test_a_checkpoint_comes_back(values, tmp_path):
    model = built(values)
    path = save_checkpoint(model, tmp_path / "a.safetensors", dtype=torch.float32)
    loaded = load_model(path)
    assert loaded.spec == model.spec
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], tensor), name
    assert describe_model(path)[1] == sum(one.numel() for one in model.state_dict().values())


@pytest.mark.parametrize("prefix", ["", "sam."])
def test_one_file_with_both_parts(put, tmp_path, prefix):
    model = built(CROPPED)
    sam = {f"{prefix}{name}": one for name, one in model.sam.state_dict().items()}
    content = {"model_state": sam, "decoder_state": model.decoder.state_dict()}
    path = put(content, "both.pt")
    model.spec.to_yaml(tmp_path / "a.yaml")
    loaded = load_model(tmp_path / "a.yaml", weights=path).module
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    decoder = put(model.decoder.state_dict(), "decoder.pt")
    assert "already" in refusal(import_patho_sam, path, model.spec, decoder=decoder)


def test_files_on_the_command_line(put, tmp_path, monkeypatch, capsys):
    model = built(TYPED)
    sam = put(model.sam.state_dict(), "sam.pt")
    nuclei = put(model.decoder.state_dict(), "nuclei.pt")
    types = put(model.class_decoder.state_dict(), "types.pt")
    spec, out = tmp_path / "a.yaml", tmp_path / "out.safetensors"
    model.spec.to_yaml(spec)

    def run(*words):
        return ended(
            monkeypatch, main, "wsi-models", "import", "--spec", spec, "--out", out, *words
        )

    assert not run("--sam", sam, "--decoder", nuclei, "--class-decoder", types)
    loaded = load_checkpoint(out)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    capsys.readouterr()
    for words, said in (
        (["--sam", sam, "--decoder", nuclei], "--class-decoder FILE"),
        (["--sam", sam], "--decoder FILE"),
        (["--sam", nuclei, "--decoder", nuclei], "where SAM's are needed"),
        (["--sam", sam, "--decoder", sam], "where a PathoSAM decoder's are needed"),
        (["--sam", sam, "--decoder", types, "--class-decoder", nuclei], "of another shape"),
        (["--sam", sam, "--hipt", sam], "--hipt means nothing"),
    ):
        out.unlink(missing_ok=True)
        assert run(*words) == 2, words
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
        assert not out.exists()


def test_options_of_patho_sam_mean_nothing_to_a_sam_path(tiny_spec, tmp_path, monkeypatch, capsys):
    tiny_spec.to_yaml(tmp_path / "a.yaml")
    words = ["import", "f.ckpt", "--class-decoder", "c.pt", "--spec", tmp_path / "a.yaml"]
    assert ended(monkeypatch, main, "wsi-models", *words, "--out", tmp_path / "o.safetensors") == 2
    assert "--class-decoder means nothing" in capsys.readouterr().err


def test_what_does_not_fit(put):
    model, cropped = built(SMALL), built(CROPPED)
    sam = put(model.sam.state_dict(), "sam.pt")
    whole = put(model.decoder.state_dict(), "whole.pt")
    half = put(cropped.decoder.state_dict(), "half.pt")
    line = refusal(import_patho_sam, sam, model.spec, decoder=half)
    assert "compat: {cropped_skips: true}" in line
    line = refusal(import_patho_sam, sam, cropped.spec, decoder=whole)
    assert "compat: {cropped_skips: false}" in line
    line = refusal(import_patho_sam, sam, model.spec, decoder=whole, class_decoder=half)
    assert "no decoder of classes" in line
    wider = parse_spec(SMALL | {"sam": SMALL["sam"] | {"embed_dim": 32}})
    assert "wants 32 channels" in refusal(import_patho_sam, sam, wider, decoder=whole)


def test_patches_get_no_class(tmp_path):
    path = save_checkpoint(built(SMALL), tmp_path / "small.safetensors")
    assert "no class to every pixel" in refusal(PatchPredictor, load_model(path))


def test_no_training_starts_from_it(tmp_path):
    path = save_checkpoint(built(SMALL), tmp_path / "small.safetensors")
    assert "is not a SAM-Path" in refusal(spec_for, SimpleNamespace(model=str(path)), None)
