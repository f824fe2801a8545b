"""Half precision says the same, and no answer depends on the batch it was in."""

import pytest
import torch

from wsi_sampath.models.checkpoints import build_model
from wsi_sampath.models.parts.norms import ChannelNorm, with_safe_norms
from wsi_sampath.models.parts.retile import with_tile
from wsi_sampath.models.parts.sam_parts import LayerNorm2d
from wsi_sampath.models.sam_path.spec import SamPathSpec
from wsi_sampath.models.zoo import load_model
from wsi_sampath.slides.slide import Slide
from wsi_sampath.synthetic.painted import paint_slide

AGREEMENT = 0.995
CPU_TILE = 512
"""A processor takes a quarter of a minute for half precision on a tile of 1024 px."""
HALF = [torch.float16, torch.bfloat16]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """Two tiles of a painted slide at the micron per pixel of gland-mini."""
    path = tmp_path_factory.mktemp("painted") / "a.svs"
    paint_slide(path, width=2048, height=1024, mpp=1.0, seed=4)
    with Slide.open(path) as slide:
        pixels = slide.read(x0=0, y0=0, width=2048, height=1024, mpp=1.0)
    return torch.from_numpy(pixels).reshape(1024, 2, 1024, 3).transpose(0, 1).contiguous()


@pytest.fixture(params=DEVICES)
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    return request.param


def answer(model, tiles, dtype=torch.float32):
    device = next(model.parameters()).device.type
    enabled = dtype != torch.float32
    with torch.inference_mode(), torch.autocast(device, dtype=dtype, enabled=enabled):
        output = model(model.preprocess(tiles.to(device)))
        return model.class_probabilities(output.logits.float()).cpu()


def agreement(one, other):
    assert torch.isfinite(one).all()
    assert torch.isfinite(other).all()
    return (one.argmax(dim=1) == other.argmax(dim=1)).float().mean()


@pytest.fixture(scope="module")
def gland_mini():
    return load_model("gland-mini").module


@pytest.fixture(scope="module")
def small_gland_mini():
    model = load_model("gland-mini").module
    like = build_model(model.spec.model_copy(update={"tile": CPU_TILE}))
    return with_tile(model, like).eval()


@pytest.fixture(scope="module")
def answers(gland_mini, small_gland_mini, tiles):
    """What gland-mini says of tiles [0:1], [1:2] or [0:2], asked once; of a corner on a CPU."""
    known = {}
    asked = {
        "cpu": (small_gland_mini, tiles[:, :CPU_TILE, :CPU_TILE]),
        "cuda": (gland_mini, tiles),
    }

    def ask(device, dtype, start=0, stop=1):
        key = (device, dtype, start, stop)
        if key not in known:
            model, seen = asked[device]
            known[key] = answer(model.to(device), seen[start:stop], dtype)
        return known[key]

    return ask


@pytest.mark.parametrize("dtype", HALF)
def test_the_bundled_model_on_a_painted_slide(answers, device, dtype):
    exact, rounded = answers(device, torch.float32), answers(device, dtype)
    assert len(exact.argmax(dim=1).unique()) == 2
    assert agreement(exact, rounded) >= AGREEMENT


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", HALF)
def test_compiled(gland_mini, answers, tiles, dtype):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    exact, model = answers("cuda", torch.float32, 0, 2), gland_mini.to("cuda")
    with torch.inference_mode(), torch.autocast("cuda", dtype=dtype):
        output = torch.compile(model)(model.preprocess(tiles.to("cuda")))
        compiled = model.class_probabilities(output.logits.float()).cpu()
    assert agreement(exact, compiled) >= AGREEMENT


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", HALF)
def test_sam_path_of_full_size(tiles, dtype):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    classes = [{"name": name, "color": "#808080"} for name in "abcd"]
    encoders = {"sam": "vit_b", "pathology": "hipt_vits16"}
    spec = SamPathSpec.model_validate({"name": "x", "classes": classes, "mpp": 1, **encoders})
    torch.manual_seed(0)
    model = build_model(spec).to("cuda")
    assert agreement(answer(model, tiles), answer(model, tiles, dtype)) >= AGREEMENT


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_batch_does_not_matter(answers, device, dtype):
    """The first tile alone, and beside another one."""
    together, alone = answers(device, dtype, 0, 2)[:1], answers(device, dtype, 0, 1)
    limit, least = (1e-4, 0.9999) if dtype == torch.float32 else (0.03, AGREEMENT)
    assert (together - alone).abs().max() <= limit
    assert agreement(together, alone) >= least


@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64])
def test_the_norm_is_the_published_one(dtype):
    torch.manual_seed(2)
    published, ours = LayerNorm2d(6), ChannelNorm(6)
    torch.nn.init.normal_(published.weight)
    ours.load_state_dict(published.state_dict())
    features = torch.randn(2, 6, 5, 4).to(dtype)
    exact = published.double()(features.double())
    out = (ours.double() if dtype == torch.float64 else ours)(features)
    assert out.dtype == dtype
    torch.testing.assert_close(out, exact.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


def test_the_norm_survives_what_overflows_float16():
    """The square of 300 is beyond float16; the published norm answers zero or nan there."""
    torch.manual_seed(2)
    features = (300 * torch.randn(1, 8, 4, 4)).half()
    out = ChannelNorm(8)(features).detach()
    assert torch.isfinite(out).all()
    assert out.float().std() == pytest.approx(1, abs=0.1)
    broken = LayerNorm2d(8).half()(features).detach().float()
    assert not torch.isfinite(broken).all() or broken.std() < 0.5


def test_every_norm_of_a_model_is_safe(tiny_model):
    norms = [one for one in tiny_model.modules() if isinstance(one, LayerNorm2d)]
    assert len(norms) == 5
    assert all(isinstance(one, ChannelNorm) for one in norms)


def test_norms_keep_their_weights():
    parent = torch.nn.Sequential(LayerNorm2d(3, eps=1e-3), torch.nn.Sequential(LayerNorm2d(2)))
    weight = parent[0].weight
    with_safe_norms(parent)
    assert parent[0].weight is weight
    assert parent[0].eps == 1e-3
    assert type(parent[1][0]) is ChannelNorm
