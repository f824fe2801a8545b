"""SAM and MobileSAM as models of their own: prompts, published files, and what is refused."""

import pytest
import torch
from command_line import ended
from small_sam import VIT, looks, small_model, small_values, some_prompts

from wsi_sampath.cli.models import main as models
from wsi_sampath.cli.segment import main as segment
from wsi_sampath.errors import WsiError
from wsi_sampath.models.checkpoints import load_checkpoint, save_checkpoint
from wsi_sampath.models.network import PromptNetwork, Prompts
from wsi_sampath.models.parse import parse_spec
from wsi_sampath.models.plain_sam.importing import import_plain_sam
from wsi_sampath.models.published.files import Kind
from wsi_sampath.models.sam_path.importing import read_kind
from wsi_sampath.models.zoo import load_model
from wsi_sampath.synthetic.painted import paint_slide

HEADS = {
    "image_encoder.norm_head.weight": torch.zeros(16),
    "image_encoder.head.weight": torch.zeros(1000, 16),
}
both = pytest.mark.parametrize("encoder", ["vit", "tiny_vit"])


def as_published(model):
    """What the authors save: MobileSAM with the classifier that nobody uses."""
    state = model.state_dict()
    return state | (HEADS if any(".layers.0.blocks.0.conv1" in name for name in state) else {})


def put(folder, content, name="sam.pth"):
    torch.save(content, folder / name)
    return folder / name


def refusal(load, *args, **options):
    with pytest.raises(WsiError) as caught:
        load(*args, **options)
    assert caught.value.reason == "bad-model"
    return caught.value.line()


@both
@torch.no_grad()
def test_many_prompts_at_once_are_answered_as_one_by_one(encoder):
    model = small_model(encoder=encoder)
    assert isinstance(model, PromptNetwork)
    tiles = torch.randint(0, 255, (1, 64, 64, 3), dtype=torch.uint8)
    embedding = model.embed([model.preprocess(tiles)])
    prompts = some_prompts()
    logits, quality = model.masks(embedding, prompts)
    assert logits.shape == (4, 3, 32, 32)
    assert quality.shape == (4, 3)
    for i, one in enumerate(prompts.batches(1)):
        alone, _ = model.masks(embedding, one)
        torch.testing.assert_close(alone[0], logits[i], rtol=1e-4, atol=1e-5)
    single, _ = model.masks(embedding, prompts, multimask=False)
    assert single.shape == (4, 1, 32, 32)


@torch.no_grad()
def test_the_early_features_are_of_the_first_block_that_sees_the_whole_tile():
    model = small_model(encoder="vit")
    seen = []
    model.image_encoder.blocks[1].register_forward_hook(lambda _m, _i, out: seen.append(out))
    _, early = model.image_encoder.forward_with_early(looks()[0])
    assert torch.equal(early, seen[0].permute(0, 3, 1, 2))


@both
@torch.no_grad()
def test_a_published_file_becomes_a_checkpoint(encoder, tmp_path):
    model = small_model(encoder=encoder)
    path = put(tmp_path, as_published(model))
    made = import_plain_sam(path, model.spec)
    assert not made.training
    loaded = load_checkpoint(save_checkpoint(made, tmp_path / "a.safetensors", dtype=torch.float32))
    assert loaded.spec == model.spec
    image, prompts = looks()[:1], some_prompts()
    for other in (made, loaded):
        for mine, theirs in zip(
            model.masks(model.embed(image), prompts),
            other.masks(other.embed(image), prompts),
            strict=True,
        ):
            assert torch.equal(mine, theirs)
    model.spec.to_yaml(tmp_path / "a.yaml")
    beside = load_model(tmp_path / "a.yaml", weights=path)
    assert beside.module.state_dict().keys() == model.state_dict().keys()


def test_files_that_do_not_fit(tmp_path):
    vit, tiny = (small_model(encoder=encoder) for encoder in ("vit", "tiny_vit"))
    sam, mobile = put(tmp_path, as_published(vit)), put(tmp_path, as_published(tiny), "mobile.pt")
    assert "is MobileSAM" in refusal(import_plain_sam, mobile, vit.spec)
    assert "wants MobileSAM" in refusal(import_plain_sam, sam, tiny.spec)
    assert "MobileSAM's weights, where SAM's" in refusal(read_kind, mobile, Kind.SAM)
    wide = parse_spec(small_values(sam=VIT | {"embed_dim": 24}))
    assert "of another size" in refusal(import_plain_sam, sam, wide)
    decoder = put(tmp_path, {"model": {"hf_token.weight": torch.zeros(1, 16)}}, "net.pth")
    assert "a WSI-SAM decoder's" in refusal(import_plain_sam, decoder, vit.spec)
    state = as_published(tiny)
    state.pop("image_encoder.layers.1.blocks.0.attn.attention_biases")
    lacking = put(tmp_path, state, "lacking.pt")
    assert "missing: image_encoder.layers.1" in refusal(import_plain_sam, lacking, tiny.spec)


@pytest.mark.parametrize(
    ("sam", "said"),
    [
        ("vit_x", "vit_b, vit_l, vit_h, vit_tiny"),
        ({"widths": [8, 8, 12, 16]}, "sam.depths: must be given"),
        ({"widths": [8, 9, 12, 16], "depths": [1] * 4, "num_heads": [2] * 3}, "num_heads"),
        ({**VIT, "depht": 3}, "did you mean 'depth'"),
        ({"widths": [8, 8, 12, 16], "depths": [0, 1, 1, 1], "num_heads": [2] * 3}, "sam.depths"),
    ],
)
def test_wrong_encoders_are_explained(sam, said):
    line = refusal(parse_spec, small_values(sam=sam))
    assert said in line
    assert "Spec" not in line


def test_no_map_is_asked_of_it(tmp_path, monkeypatch, capsys):
    path = save_checkpoint(small_model(), tmp_path / "a.safetensors")
    with pytest.raises(WsiError, match="wsi-prompt"):
        _ = load_model(path).tile_network
    slide = tmp_path / "slide.svs"
    paint_slide(slide, width=256, height=256, mpp=0.5, levels=(1,))
    words = [slide, "--model", path, "--out", tmp_path / "out.zarr"]
    for more in ([], ["--dry-run"], ["--mode", "amg"]):
        assert ended(monkeypatch, segment, "wsi-segment", *words, *more) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "answers prompts only" in line
        assert "wsi-prompt" in line


@pytest.mark.parametrize("how", [[], ["--sam"]])
def test_importing_on_the_command_line(how, tmp_path, monkeypatch, capsys):
    model = small_model(encoder="tiny_vit")
    path, out = put(tmp_path, as_published(model), "mobile_sam.pt"), tmp_path / "out.safetensors"
    model.spec.to_yaml(tmp_path / "a.yaml")
    words = ["import", *how, path, "--spec", tmp_path / "a.yaml", "--out", out]
    assert not ended(monkeypatch, models, "wsi-models", *words)
    assert "answers prompts" in capsys.readouterr().out
    assert not ended(monkeypatch, models, "wsi-models", "info", out)
    assert "wsi-prompt" in capsys.readouterr().out
    assert ended(monkeypatch, models, "wsi-models", *words, "--decoder", path) == 2
    assert "--decoder means nothing" in capsys.readouterr().err
    assert load_checkpoint(out).spec == model.spec


@torch.no_grad()
def test_a_point_a_box_and_a_mask_alone():
    model = small_model()
    embedding, prompts = model.embed(looks()[:1]), some_prompts()
    alone = (
        Prompts(points=prompts.points, labels=prompts.labels),
        Prompts(boxes=prompts.boxes),
        Prompts(masks=prompts.masks),
    )
    for one in alone:
        assert model.masks(embedding, one)[0].shape == (4, 3, 32, 32)
