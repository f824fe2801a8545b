"""WSI-SAM, a small one: what is learned and what is not, how an answer is put together."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_sam import VIT, looks, small_model, small_values, some_prompts

from wsi_sampath.errors import WsiError
from wsi_sampath.models.build import build_network
from wsi_sampath.models.network import PromptNetwork, Prompts
from wsi_sampath.models.parse import parse_spec
from wsi_sampath.models.wsi_sam.low_view import in_low_view

LEARNED = {"vit_b": 2_142_208, "vit_l": 2_666_496, "vit_h": 3_190_784, "vit_tiny": 897_024}
both = pytest.mark.parametrize("encoder", ["vit", "tiny_vit"])


@pytest.fixture(scope="module")
def model():
    return small_model("wsi_sam")


@pytest.fixture(scope="module")
def embedding(model):
    with torch.no_grad():
        return model.embed(looks())


@pytest.mark.parametrize(("size", "count"), LEARNED.items())
def test_how_much_is_learned(size, count):
    with torch.device("meta"):
        model = build_network(parse_spec(small_values("wsi_sam", sam=size, prompts={})))
    learned = [one for one in model.parameters() if one.requires_grad]
    assert sum(one.numel() for one in learned) == count
    for part in (model.high, model.low):
        assert sum(one.numel() for one in part.parameters()) == count // 2


@both
def test_training_changes_nothing_of_sam(encoder):
    model = small_model("wsi_sam", encoder).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    learned = [one for one in model.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=0.01)
    near, far = model.look(looks())
    prompts = some_prompts()
    for logits in model.paired_logits((near, far), prompts, model.in_low(prompts)):
        assert logits.shape == (4, 1, 32, 32)
        logits.square().mean().backward(retain_graph=True)
    assert all(one.grad is not None and one.grad.any() for one in learned)
    optimiser.step()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("sam."), name


@both
@torch.no_grad()
def test_many_prompts_at_once_are_answered_as_one_by_one(encoder):
    model = small_model("wsi_sam", encoder)
    assert isinstance(model, PromptNetwork)
    tiles = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    embedding = model.embed(model.preprocess(tiles).split(1))
    prompts = some_prompts()
    for multimask in (False, True):
        logits, quality = model.masks(embedding, prompts, multimask=multimask)
        assert logits.shape == (4, 1, 32, 32)
        assert quality.shape == (4, 1)
        for i, one in enumerate(prompts.batches(1)):
            alone, _ = model.masks(embedding, one, multimask=multimask)
            torch.testing.assert_close(alone[0], logits[i], rtol=1e-4, atol=1e-5)


@both
@torch.no_grad()
def test_what_is_kept_of_a_place_takes_its_own_memory_and_is_laid_out_plainly(encoder):
    for part in small_model("wsi_sam", encoder).embed(looks()):
        assert part.is_contiguous()
        assert part.untyped_storage().nbytes() == part.nbytes


@both
@torch.no_grad()
def test_half_precision_is_for_the_encoder_alone(encoder):
    model, prompts = small_model("wsi_sam", encoder), some_prompts()
    exact = model.masks(model.embed(looks()), prompts)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = model.embed(looks())
        logits, quality = model.masks(embedding, prompts)
    assert logits.dtype == quality.dtype == torch.float32
    assert ((logits > 0) == (exact > 0)).float().mean() > 0.95
    assert torch.equal(model.masks(embedding, prompts)[0], logits)


@torch.no_grad()
def test_places_in_one_batch(model):
    together = model.look(looks(3))
    for i in range(3):
        alone = model.look([view[i : i + 1] for view in looks(3)])
        for mine, theirs in zip(together, alone, strict=True):
            for part, other in zip(mine.of(i), theirs, strict=True):
                torch.testing.assert_close(part, other, rtol=1e-4, atol=1e-5)


class Watched:
    """What parts of a model said last."""

    def __init__(self, **parts):
        self.said = {}
        self.hooks = [
            part.register_forward_hook(lambda _m, _i, out, name=name: self.said.update({name: out}))
            for name, part in parts.items()
        ]

    def __enter__(self):
        return self.said

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()


@torch.no_grad()
def test_an_answer_is_a_mask_of_sam_and_a_correction(model, embedding):
    """The published combination, written down once more."""
    prompts = some_prompts()
    decoder = model.sam.mask_decoder
    parts = {f"mlp{i}": mlp for i, mlp in enumerate(decoder.output_hypernetworks_mlps)} | {
        "iou": decoder.iou_prediction_head,
        "upscaled": decoder.output_upscaling,
        "near": model.high.hf_mlp,
        "far": model.low.hf_mlp,
        "feature": model.high.embedding_maskfeature,
    }
    for multimask in (False, True):
        with Watched(**parts) as said:
            logits, quality = model.masks(embedding, prompts, multimask=multimask)
        features = said["feature"] + embedding[2]
        for i in range(4):
            which = 1 + int(said["iou"][i, 1:].argmax()) if multimask else 0
            assert quality[i, 0] == said["iou"][i, which]
            mask = torch.einsum("c,chw->hw", said[f"mlp{which}"][i], said["upscaled"][i])
            token = said["near"][i] + said["far"][i]
            mask += torch.einsum("c,chw->hw", token, features[i])
            torch.testing.assert_close(logits[i, 0], mask, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_what_is_trained_is_the_correction(model, embedding):
    prompts = some_prompts()
    with Watched(iou=model.sam.mask_decoder.iou_prediction_head) as said:
        high, _ = model.paired_logits(model.look(looks()), prompts, model.in_low(prompts))
    assert not said
    watched = Watched(
        mlp=model.sam.mask_decoder.output_hypernetworks_mlps[0],
        upscaled=model.sam.mask_decoder.output_upscaling,
    )
    with watched as said:
        answer, _ = model.masks(embedding, prompts, multimask=False)
    sam = torch.einsum("pc,pchw->phw", said["mlp"], said["upscaled"])[:, None]
    torch.testing.assert_close(answer, sam + high, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_mean_and_sum():
    prompts = some_prompts()
    answers = {}
    for aggregation in ("sum", "mean"):
        model = small_model("wsi_sam", aggregation=aggregation)
        views = model.look(looks())
        answers[aggregation] = model.paired_logits(views, prompts, model.in_low(prompts))
    for whole, half in zip(*answers.values(), strict=True):
        torch.testing.assert_close(whole, 2 * half)


@torch.no_grad()
def test_the_fusion_of_the_low_resolution_is_for_training_alone(model):
    parts = [
        model.low.compress_vit_feat,
        model.low.embedding_encoder,
        model.low.embedding_maskfeature,
    ]
    prompts = some_prompts()
    with Watched(**{str(i): part for i, part in enumerate(parts)}) as said:
        near = model.masks(model.embed(looks()), prompts)[0]
        assert not said
        model.paired_logits(model.look(looks()), prompts, model.in_low(prompts))
        assert len(said) == len(parts)
    high, _ = looks()
    _, other = looks(seed=1)
    far = model.masks(model.embed([high, other]), prompts)[0]
    assert not torch.allclose(near, far), "the low resolution has no part in the answer"


@torch.no_grad()
def test_prompts_beside_the_image_and_of_no_size(model, embedding):
    odd = torch.tensor([[-500.0, 20, -400, 30], [5, 5, 5, 5], [127, 127, 4000, 9000]])
    for prompts in (Prompts(boxes=odd), Prompts(odd[:, None, :2], torch.ones(3, 1))):
        logits, quality = model.masks(embedding, prompts)
        assert logits.isfinite().all()
        assert quality.isfinite().all()


@given(
    x=st.floats(-200, 1300, width=32),
    y=st.floats(-200, 1300, width=32),
    mpp=st.sampled_from([0.25, 1.0, 1.3]),
)
def test_both_resolutions_mean_one_place_of_the_slide(x, y, mpp):
    """Around one centre, one view is twice as wide as the other; SAM points at pixel centres."""
    point = torch.tensor([[[x, y]]])
    prompts = Prompts(point, torch.ones(1, 1), torch.tensor([[x, y, x + 30, y + 11]]))
    low = in_low_view(prompts, 1024)
    for here, there in ((prompts.points, low.points), (prompts.boxes, low.boxes)):
        near = (here + 0.5 - 512) * mpp
        far = (there + 0.5 - 512) * 2 * mpp
        # Half a pixel of the high resolution, by which pixel centres differ.
        assert (near - far).abs().max() <= 0.5 * mpp + 1e-3


def test_boxes_as_the_published_program_rounds_them(model):
    boxes = torch.tensor([[131.0, 205.0, 803.0, 641.0]])
    exact = model.in_low(Prompts(boxes=boxes)).boxes - 32
    assert exact.tolist() == [[65.5, 102.5, 401.5, 320.5]]
    floored = small_model("wsi_sam", compat={"floored_boxes": True})
    assert (floored.in_low(Prompts(boxes=boxes)).boxes - 32).tolist() == [[65, 102, 401, 320]]


def test_a_mask_is_half_as_large_in_the_middle():
    mask = torch.full((2, 1, 16, 16), -3.0)
    mask[0, 0, 4:8, 2:16] = 5
    mask[1] = 2
    low = in_low_view(Prompts(masks=mask), 64).masks
    expected = torch.full((16, 16), -3.0)
    expected[6:8, 5:12] = 5
    assert torch.equal(low[0, 0], expected)
    assert low[1, 0, 4:12, 4:12].eq(2).all()
    assert low[1, 0, :4].eq(0).all(), "nothing is known beside a mask that fills its view"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tile": 112}, "multiple of 64"),
        ({"aggregation": "max"}, "aggregation: must be 'sum' or 'mean'"),
        ({"sam": VIT | {"global_attn_indexes": []}}, "global_attn_indexes"),
        ({"compat": {"floored": True}}, "did you mean 'floored_boxes'"),
    ],
)
def test_wrong_specifications(changes, said):
    with pytest.raises(WsiError, match=said):
        parse_spec(small_values("wsi_sam") | changes)
