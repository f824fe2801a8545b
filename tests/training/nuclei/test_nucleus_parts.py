"""Settings, crops and prompts of the training of nuclei."""

from pathlib import Path

import numpy as np
import pytest
import torch
from nucleus_patches import TINY, TYPED, paint_nuclei, painted, write_config
from PIL import Image

from wsi_sampath.data.patches import Nuclei, open_patches
from wsi_sampath.errors import UsageError
from wsi_sampath.models.parse import parse_spec, spec_from_yaml
from wsi_sampath.training.configuration import read_settings
from wsi_sampath.training.nuclei.reader import UNKNOWN, NucleusReader, resampled
from wsi_sampath.training.nuclei.settings import FLIPS, NucleiSettings, Plateau, PromptSettings
from wsi_sampath.training.nuclei.validation import PROMPT_KINDS, prompts_of
from wsi_sampath.training.settings import TrainSettings

GIVEN = ("data=d", "out=o")
ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "configs" / "train").glob("*nuclei*.yaml"))


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    return open_patches(paint_nuclei(tmp_path_factory.mktemp("painted") / "data"))


@pytest.fixture
def read(tmp_path, patches):
    def build(*more, spec=TINY, of=patches):
        given = read_settings(write_config(tmp_path), [*GIVEN, *more])
        return NucleusReader(of, parse_spec(spec), given)

    return build


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("prompting.object=3",), "did you mean 'prompting.objects'"),
        (("optimiser.warm_up=3",), "unknown setting 'optimiser.warm_up'; did you mean"),
        (("minnuclei=3",), "did you mean 'min_nuclei'"),
        (("objective=pixels",), "setting objective"),
        (("trainable=decoder",), "set prompting=null"),
        (("accumulate=2",), "setting accumulate"),
        (("weights.sma=x",), "did you mean 'weights.sam'"),
        (("side=64",), "unknown setting 'side'"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path, words, said):
    with pytest.raises(UsageError) as caught:
        read_settings(write_config(tmp_path), [*GIVEN, *words])
    assert said in caught.value.line()
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_is_valid(path):
    read = read_settings(path, GIVEN)
    spec = spec_from_yaml(read.model)
    assert isinstance(read, NucleiSettings)
    assert spec.class_decoder == (read.objective == "classes")


def test_the_published_numbers():
    joint, classes = (
        read_settings(ROOT / f"configs/train/{name}.yaml", GIVEN)
        for name in ("nuclei", "nuclei-classes")
    )
    assert (joint.batch_size, joint.trainable, joint.augmentation) == (2, "all", FLIPS)
    assert joint.optimiser == Plateau()
    assert (joint.optimiser.learning_rate, joint.optimiser.patience) == (1e-5, 10)
    assert joint.prompting == PromptSettings()
    assert (joint.prompting.objects, joint.prompting.rounds) == (40, 8)
    assert (joint.min_nuclei, joint.min_size_px, joint.weights.given) == (
        3,
        10,
        {"sam": "sam-vit-b"},
    )
    assert (classes.batch_size, classes.trainable, classes.prompting) == (8, "decoder", None)
    assert (classes.optimiser.learning_rate, classes.optimiser.patience) == (1e-4, 5)


def test_without_objective_they_are_those_of_sam_path(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("model: m\n")
    assert isinstance(read_settings(path, GIVEN), TrainSettings)
    with pytest.raises(UsageError, match="did you mean 'objective'"):
        read_settings(path, [*GIVEN, "objectiv=nuclei"])


def test_a_version_follows_from_its_seed(read, patches):
    strong = "augmentation={crop_scale: [0.4, 1], rotate: 1, stain: 0.3}"
    reader, patch = read(strong), patches.patches[0]
    once, again, other = (reader(patch, version) for version in (4, 4, 5))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not torch.equal(once.image, other.image)


@pytest.mark.parametrize("version", range(6))
def test_labels_follow_the_picture(read, patches, version):
    """Ids up to 315 come through; where it is dark there is a nucleus of the right class."""
    strong = "augmentation={crop_scale: [0.6, 1], rotate: 1, colour_probability: 0}"
    reader = read(strong, "objective=classes", "prompting=null", spec=TYPED)
    sample = reader(patches.patches[0], version)
    assert sample.image.shape == (32, 32, 3)
    assert sample.maps.shape == (3, 32, 32)
    inside = sample.instances > 0
    assert torch.equal(inside, sample.maps[0] > 0)
    dark = sample.image.float().mean(dim=2) < 120
    assert (dark == (sample.types > 0)).float().mean() > 0.85
    red = sample.image[..., 0].float() > sample.image[..., 2].float()
    inner = dark & (sample.types > 0)
    assert ((sample.types == 2) == red)[inner].float().mean() > 0.9
    assert len(sample.instances.unique()) > 4


def test_plain_views_show_all_of_a_patch(read, patches):
    reader, patch = read(), patches.patches[0]
    views = reader.views(patch)
    assert views == [-1, -2, -3, -4]
    image = painted(0)[0]
    assert np.array_equal(reader(patch, -1).image.numpy(), image[:32, :32])
    assert np.array_equal(reader(patch, -4).image.numpy(), image[8:, 8:])
    assert torch.equal(reader(patch, -1).image, reader(patch, -1).image)


def test_crops_are_of_the_models_scale(read, tmp_path):
    coarse = open_patches(paint_nuclei(tmp_path / "coarse", mpp=0.5))
    reader = read(of=coarse)
    assert reader.zoom == 2
    assert len(reader.views(coarse.patches[0])) == 9
    inside = (reader(coarse.patches[0], -1).instances > 0).float().mean()
    assert inside == pytest.approx((painted(0)[1][:16, :16] > 0).mean(), abs=0.05)
    fine = open_patches(paint_nuclei(tmp_path / "fine", mpp=0.125))
    small = read(of=fine)(fine.patches[0], -1)
    # 20 px of tissue are mirrored up to the tile of 32.
    assert np.array_equal(small.image[19], small.image[20])
    assert np.array_equal(small.image[:, 8], small.image[:, 31])


def test_labels_are_resampled_to_the_nearest():
    image, instances, types = painted(1)
    found = resampled(Nuclei(image, instances, types), 1.7)
    assert found.image.shape == (68, 68, 3)
    assert found.instances.shape == found.types.shape == (68, 68)
    assert set(np.unique(found.instances)) == set(np.unique(instances))
    assert ((found.instances > 0) == (found.types > 0)).all()


def test_crops_have_nuclei(read, tmp_path):
    """One crop in twenty shows all three nuclei of a patch, and it is the one that is drawn."""
    root = paint_nuclei(tmp_path / "sparse", typed=False)
    labels = np.zeros((64, 64), np.uint16)
    for number in range(3):
        labels[2:8, 2 + 9 * number : 8 + 9 * number] = number + 1
    Image.fromarray(labels).save(root / "inst" / "i0.png")
    Image.new("RGB", (64, 64), "white").save(root / "img" / "i0.png")
    found = open_patches(root)
    reader = read(of=found)
    counts = [int(reader(found.patches[0], version).instances.max()) for version in range(8)]
    assert sum(count == 3 for count in counts) >= 4


def test_a_nucleus_of_unknown_class_teaches_none(read, tmp_path):
    root = paint_nuclei(tmp_path / "data")
    types = np.array(Image.open(root / "type" / "i0.png"))
    types[:10] = 0
    Image.fromarray(types).save(root / "type" / "i0.png")
    found = open_patches(root)
    sample = read("objective=classes", "prompting=null", spec=TYPED, of=found)(found.patches[0], -1)
    first = sample.types[:10]
    assert set(first.unique().tolist()) == {0, UNKNOWN}
    assert ((first == UNKNOWN) == torch.from_numpy(painted(0)[1][:10, :32] > 0)).all()


@pytest.mark.parametrize("kind", PROMPT_KINDS)
def test_prompts_of_validation(kind):
    truth = torch.zeros(3, 40, 40, dtype=torch.bool)
    truth[0, 5:9, 5:9] = truth[1, 30:38, 20:30] = True
    truth[2] = True
    for seed in range(5):
        prompts = prompts_of(truth, torch.Generator().manual_seed(seed), kind)
        assert (prompts.boxes is not None) == kind.box
        if kind.box:
            assert prompts.boxes[0].tolist() == [5, 5, 9, 9]
        if prompts.points is None:
            assert kind.box
            continue
        for mask, points, labels in zip(truth[:2], prompts.points, prompts.labels, strict=False):
            hit = mask[points[:, 1].long(), points[:, 0].long()]
            assert torch.equal(hit, labels > 0)
        assert prompts.points.shape[1] <= (8 if kind.points else 1)
