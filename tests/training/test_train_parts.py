from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_stub import CLASSES, TINY, paint_patches

from wsi_sampath.data.patches import open_patches
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.models.checkpoints import build_model
from wsi_sampath.models.sam_path.spec import SamPathSpec
from wsi_sampath.training.augment import augmenter, to_side, version_seed
from wsi_sampath.training.features import FeatureStore
from wsi_sampath.training.loader import PLAIN, PatchReader, label_table, share_of, shuffled, stacked
from wsi_sampath.training.settings import Augmentation, Optimiser, TrainSettings
from wsi_sampath.training.task import SegmentationTask, schedule_of
from wsi_sampath.training.train import fit


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    return open_patches(paint_patches(tmp_path_factory.mktemp("painted") / "data"))


def new_task(**changes):
    torch.manual_seed(0)
    settings = TrainSettings(model="m", data="d", out="o", **changes)
    return SegmentationTask(build_model(SamPathSpec.model_validate(TINY)), settings, 3)


def reader(patches, augmentation=None, side=64):
    table = label_table(SamPathSpec.model_validate(TINY), patches)
    return PatchReader(patches, table, side, augmentation)


def test_a_version_follows_from_its_seed(patches):
    read = reader(patches, Augmentation(stain=0.3))
    patch = patches.patches[0]
    once, again, other = (read(patch, version) for version in (4, 4, 5))
    torch.manual_seed(99)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not torch.equal(once[0], other[0])


def test_drawing_a_version_leaves_the_global_generator_alone(patches):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    reader(patches, Augmentation())(patches.patches[0], 1)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("seed", range(8))
def test_labels_follow_the_picture(seed):
    """Where pixels are dark there is label 2 after any crop, turn and flip, but at the borders."""
    mask = np.ones((80, 96), np.uint8)
    mask[10:50, 20:70] = 2
    image = np.where(mask == 2, 40, 210).astype(np.uint8)[..., None].repeat(3, axis=2)
    pixels, labels = augmenter(Augmentation(colour_probability=0), 64)(image, mask, seed)
    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == labels.dtype == torch.uint8
    dark = pixels[..., 0] < 125
    assert (dark == (labels == 2)).float().mean() > 0.95


def test_without_augmentation_only_the_size_changes():
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    mask = np.random.default_rng(1).integers(0, 3, (64, 64), np.uint8)
    pixels, labels = to_side(image, mask, 64)
    assert np.array_equal(pixels, image)
    assert np.array_equal(labels, mask)


def test_labels_are_matched_by_name(tmp_path):
    swapped = open_patches(paint_patches(tmp_path / "data", classes=CLASSES[::-1]))
    spec = SamPathSpec.model_validate(TINY)
    assert label_table(spec, swapped).tolist() == [0, 2, 1]
    other = SamPathSpec.model_validate(TINY | {"classes": [{"name": "a", "color": "#000000"}]})
    with pytest.raises(UsageError, match="classes=data"):
        label_table(other, swapped)


def test_classes_of_a_model_that_differ_in_capitals_alone_are_refused(patches):
    alike = [*TINY["classes"], {"name": "Gland", "color": "#000000"}]
    # The specification refuses them before any patch is looked at.
    with pytest.raises(ValueError, match="'[Gg]land' and 'Gland'; capitals do not count"):
        label_table(SamPathSpec.model_validate(TINY | {"classes": alike}), patches)


@given(st.integers(1, 40), st.integers(1, 5))
def test_devices_share_all_patches_equally(count, world):
    shares = [share_of([*range(count)], rank, world) for rank in range(world)]
    assert {len(one) for one in shares} == {-(-count // world)}
    assert set().union(*shares) == set(range(count))


def test_every_epoch_has_its_order():
    order = [shuffled([*range(50)], 1, epoch) for epoch in (0, 0, 1)]
    assert order[0] == order[1] != order[2]
    assert sorted(order[2]) == [*range(50)]


@given(st.integers(0, 99), st.integers(0, 99))
def test_seeds_differ(version, other):
    assert (version_seed(0, version, "a") == version_seed(0, other, "a")) == (version == other)


def test_the_schedule_is_the_papers():
    factor = schedule_of(Optimiser(), 72)
    assert factor(0) == 0
    assert factor(36) == pytest.approx(0.5)
    assert [factor(step) for step in (72, 1799)] == [1, 1]
    assert factor(1800) == pytest.approx(0.1)
    assert factor(2088) == pytest.approx(0.01)


def test_a_schedule_in_epochs():
    factor = schedule_of(Optimiser(unit="epochs", warm_up=1, drops=(25,)), 72)
    assert (factor(36), factor(72), factor(1799)) == (0.5, 1, 1)
    assert factor(1800) == pytest.approx(0.1)


def test_frozen_parts_get_no_gradient_and_stay_in_evaluation_mode(patches):
    task = new_task()
    task.train()
    read = reader(patches)
    batch = stacked([read(one, PLAIN) for one in patches.split("train")[:2]])
    before = {name: one.clone() for name, one in task.state_dict().items()}
    torch.autograd.backward(task.loss(batch).total)
    torch.optim.AdamW([one for one in task.parameters() if one.requires_grad], lr=0.1).step()
    changed = {
        name for name, one in task.state_dict().items() if not torch.equal(one, before[name])
    }
    assert changed
    assert all(name.startswith(("model.neck.", "model.decoder.")) for name in changed)
    fixed = [*task.model.sam_encoder.modules(), *task.model.pathology_encoder.modules()]
    assert not any(part.training for part in fixed)
    assert all(one.grad is None for part in fixed for one in part.parameters())
    assert task.model.decoder.training


def test_the_task_without_pathology_encoder_keeps_sams_neck():
    spec = {name: value for name, value in TINY.items() if name != "pathology"}
    settings = TrainSettings(model="m", data="d", out="o")
    task = SegmentationTask(build_model(SamPathSpec.model_validate(spec)), settings, 3)
    assert all(name.startswith("model.decoder.") for name in task.trained)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 1e-3)])
def test_kept_features_give_the_same_loss(patches, tmp_path, dtype, tolerance):
    task = new_task().eval()
    read = reader(patches, Augmentation(variants=2))
    store = FeatureStore(tmp_path, read, dtype)
    chosen = patches.split("train")[:3]
    wanted = store.missing(chosen, [0, 1])
    assert len(wanted) == 6
    assert [*store.fill(wanted, lambda x: task.features(x).detach(), 4)] == [4, 6]
    assert store.missing(chosen, [0, 1]) == []
    for version in (0, 1):
        plain = task.loss(stacked([read(one, version) for one in chosen]))
        kept = task.loss(stacked([store(one, version) for one in chosen]))
        for one, other in zip(plain, kept, strict=True):
            assert one.item() == pytest.approx(other.item(), rel=tolerance, abs=tolerance)


def test_damaged_features_are_made_again(patches, tmp_path):
    task, patch = new_task(), patches.patches[0]
    store = FeatureStore(tmp_path, reader(patches), torch.float16)
    [*store.fill([(patch, PLAIN)], lambda x: task.features(x).detach(), 1)]
    path = store.path(patch, PLAIN)
    path.write_bytes(path.read_bytes()[:100])
    assert store.missing([patch], [PLAIN]) == [(patch, PLAIN)]


@pytest.mark.parametrize("can_accumulate", [True, False])
def test_what_to_do_about_memory_is_what_the_training_takes(can_accumulate):
    trainer = Mock()
    trainer.fit.side_effect = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(WsiError) as caught:
        fit(trainer, Mock(), Mock(), None, can_accumulate=can_accumulate)
    assert caught.value.reason == "out-of-memory"
    assert ("accumulate" in caught.value.message) == can_accumulate
