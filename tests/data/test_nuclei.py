"""Images with labelled nuclei: every format in, one layout out, and every bad input one line."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.io import savemat

from wsi_sampath.data.folds import Split
from wsi_sampath.data.grouping import read_grouping
from wsi_sampath.data.nuclei import plan_nuclei
from wsi_sampath.data.nucleus_labels import checked_instances
from wsi_sampath.data.patches import check_patches, open_patches
from wsi_sampath.data.prepare import check_mpp, prepare
from wsi_sampath.errors import UsageError, WsiError

SHAPE = (20, 30)


def nuclei(seed=0, *, wide=False):
    """Three squares; their types are 1, 2 and 5."""
    rng = np.random.default_rng(seed)
    instances, types = np.zeros(SHAPE, np.uint16), np.zeros(SHAPE, np.uint8)
    for number, kind in enumerate((1, 2, 5)):
        at = np.s_[2 + number : 9 + number, 2 + 9 * number : 8 + 9 * number]
        instances[at] = rng.integers(300, 400) + 100 * number if wide else number + 1
        types[at] = kind
    image = rng.integers(100, 255, (*SHAPE, 3), np.uint8)
    return image, instances, types


def put(path, values):
    path.parent.mkdir(exist_ok=True)
    match path.suffix:
        case ".npy":
            np.save(path, values)
        case ".mat":
            savemat(path, values)
        case ".tif":
            tifffile.imwrite(path, values)
        case _:
            Image.fromarray(values).save(path)


@pytest.fixture
def folders(tmp_path):
    """Six images; labels as PNG, TIFF, .npy and .mat, with types beside them as PNG."""
    for number in range(6):
        image, instances, types = nuclei(number, wide=True)
        name = f"p{number // 2}_{number}"
        put(tmp_path / "images" / f"{name}.png", image)
        put(tmp_path / "types" / f"{name}.png", types)
        kind = (".png", ".tif", ".npy", ".mat")[number % 4]
        here = tmp_path / "inst" / f"{name}{kind}"
        put(here, {"inst_map": instances.astype(float)} if kind == ".mat" else instances)
    return tmp_path


def plan(root, **more):
    options = {"mpp": 0.25, "split": Split(case="^(p.)")} | more
    return plan_nuclei([root / "images"], [root / "inst"], root / "out", **options)


def prepared(made):
    notes = []
    for _ in prepare(made, lambda image, note: notes.append(note)):
        pass
    return open_patches(made.out), notes


def test_every_format(folders):
    found, notes = prepared(plan(folders))
    assert notes == []
    assert (found.layers, found.mpp, [one.name for one in found.classes]) == (
        ("inst",),
        0.25,
        ["nucleus"],
    )
    assert len({patch.case for patch in found.patches}) == 3
    assert len([*check_patches(found)]) == 6
    for number, patch in enumerate(found.patches):
        image, instances, _ = nuclei(number, wide=True)
        read = found.read_nuclei(patch)
        assert np.array_equal(read.image, image)
        assert np.array_equal(read.instances, instances)
        assert read.instances.dtype == np.uint16
        assert read.types is None
    with pytest.raises(WsiError, match="no classes of pixels"):
        found.read(found.patches[0])


def test_types(folders):
    made = plan(folders, types=[folders / "types"], grouping=read_grouping("pannuke"))
    found, _ = prepared(made)
    assert found.layers == ("inst", "type")
    for patch in found.patches:
        read = found.read_nuclei(patch)
        assert np.array_equal(read.types, nuclei()[2])
    (folders / "out" / "type" / "p0_0.png").unlink()
    with pytest.raises(WsiError, match=r"type/p0_0\.png of patches.csv missing"):
        open_patches(folders / "out")
    assert len([*check_patches(prepared(made)[0])]) == 6
    with pytest.raises(UsageError, match="begun with other classes"):
        prepared(plan(folders))


def test_types_named_by_a_suffix(folders):
    for path in (folders / "types").iterdir():
        path.rename(path.with_stem(f"{path.stem}_type"))
    made = plan(
        folders,
        types=[folders / "types"],
        types_suffix="_type",
        grouping=read_grouping("pannuke"),
    )
    assert prepared(made)[0].layers == ("inst", "type")
    with pytest.raises(UsageError, match="--types-suffix goes with --types"):
        plan(folders, types_suffix="_type")


def test_types_of_consep_and_hover_net(tmp_path):
    image, instances, types = nuclei()
    odd = types.copy()
    odd[3, 3], odd[15, 15] = 2, 2
    for name in "ab":
        put(tmp_path / "images" / f"{name}.png", image)
    put(tmp_path / "inst" / "a.mat", {"inst_map": instances * 1.0, "type_map": types * 1.0})
    put(tmp_path / "inst" / "b.npy", np.stack([instances, odd], axis=-1).astype(np.int32))
    options = {"split": Split()}
    found, notes = prepared(plan(tmp_path, grouping=read_grouping("consep"), **options))
    for patch in found.patches:
        read = found.read_nuclei(patch).types
        assert np.array_equal(np.unique(read), [0, 1, 2, 4])
        assert np.array_equal(read == 4, types == 5)
    assert [note.split()[0] for note in notes] == ["types", "nuclei"]
    plain = plan_nuclei([tmp_path / "images"], [tmp_path / "inst"], tmp_path / "plain")
    assert {note.partition(";")[0] for note in prepared(plain)[1]} == {"its types are left out"}


@pytest.fixture
def pannuke(tmp_path):
    for fold in (1, 2, 3):
        images, masks = (tmp_path / f"Fold {fold}" / kind / f"fold{fold}" for kind in ("i", "m"))
        for folder in (images, masks):
            folder.mkdir(parents=True)
        np.save(images / "images.npy", np.full((4, 8, 8, 3), 200.0 + fold))
        np.save(images / "types.npy", np.array(["Breast", "Bile-duct", "Colon", "Colon"]))
        mask = np.zeros((4, 8, 8, 6))
        mask[..., 5] = 1
        mask[:3, 1:4, 1:4, 0], mask[:3, 5:7, 1:4, 0], mask[:3, 3:6, 3:6, 4] = 7, 9, 7
        np.save(masks / "masks.npy", mask)
    return tmp_path


def test_pannuke(pannuke):
    split = Split(case=r"^(fold\d)", test_cases="fold3")
    made = plan_nuclei([pannuke], [pannuke], pannuke / ".." / "out", split=split)
    found, _ = prepared(made)
    assert [one.name for one in found.classes][:2] == ["neoplastic", "inflammatory"]
    assert {patch.case for patch in found.split("test")} == {"fold3"}
    assert len(found.split("train")) == len(found.split("validation")) == 4
    assert found.patches[1].img_id == "fold1_Bile-duct_0001"
    read = found.read_nuclei(found.patches[0])
    assert (read.image == 201).all()
    assert read.instances.max() == 3
    assert (read.types[3:6, 3:6] == 5).all()
    assert {*read.types[1:3, 1:4].ravel(), *read.types[6, 1:3]} == {1}
    assert not found.read_nuclei(found.patches[3]).instances.any()


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("a.png", np.eye(5, dtype=np.uint16), "is 5 x 5 px, its image 30 x 20 px"),
        ("a.png", (nuclei()[1] > 0).astype(np.uint8) * 255, "are not told apart"),
        ("a.png", nuclei()[1] + np.uint16(1), "has the number 1 at all its edges"),
        ("a.png", np.zeros((*SHAPE, 3), np.uint8) + nuclei()[1][..., None].astype(np.uint8), "col"),
        ("a.jpg", nuclei()[1].astype(np.uint8), "losses"),
        ("a.npy", nuclei()[1] + 0.5, "fractions"),
        ("a.npy", nuclei()[1] * np.nan, "NaN"),
        ("a.npy", -nuclei()[1].astype(int), "negative"),
        ("a.npy", np.array([{"inst_map": 1}], object), "never unpickled"),
        ("a.npy", np.zeros((*SHAPE, 4)) + 1, "not one number a pixel"),
        ("a.npy", np.full(SHAPE, "x"), "not one number a pixel"),
        ("a.mat", {"instances": nuclei()[1]}, "has no inst_map"),
        ("a.png", np.zeros(SHAPE, np.uint16), "no nucleus in any"),
        ("b.png", nuclei()[1], "no instances for a.png"),
    ],
)
def test_bad_labels_are_one_line(tmp_path, name, values, said):
    put(tmp_path / "images" / "a.png", nuclei()[0])
    put(tmp_path / "inst" / name, values)
    with pytest.raises(WsiError, match=said) as caught:
        prepared(plan(tmp_path, split=None))
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize("suffix", [".npy", ".mat", ".png"])
def test_damaged_labels(tmp_path, suffix):
    put(tmp_path / "images" / "a.png", nuclei()[0])
    (tmp_path / "inst").mkdir()
    (tmp_path / "inst" / f"a{suffix}").write_bytes(b"\x93NUMPY not at all")
    with pytest.raises(WsiError, match="damaged|not a readable") as caught:
        prepared(plan(tmp_path, split=None))
    assert "\n" not in caught.value.line()


def test_a_type_outside_of_the_classes(folders):
    table = read_grouping("pannuke")
    few = table.model_copy(update={"classes": table.classes[:2]})
    with pytest.raises(WsiError, match="holds 5, which no class"):
        prepared(plan(folders, types=[folders / "types"], grouping=few))


def test_options_that_do_not_go_together(folders, pannuke, tmp_path):
    with pytest.raises(UsageError, match="with --classes FILE"):
        plan(folders, types=[folders / "types"])
    with pytest.raises(UsageError, match="has colours"):
        plan(folders, grouping=read_grouping("rings"))
    with pytest.raises(UsageError, match="they go together"):
        plan_nuclei([folders / "images"], [], tmp_path / "o")
    with pytest.raises(UsageError, match="others do not"):
        plan_nuclei([pannuke / "Fold 1", folders / "images"], [folders] * 2, tmp_path / "../o")
    with pytest.raises(WsiError, match="no types, but --classes"):
        prepared(plan(folders, grouping=read_grouping("pannuke")))


def test_pannuke_from_0_to_1_is_refused(pannuke):
    file = next(pannuke.rglob("images.npy"))
    np.save(file, (np.load(file) / 255).astype(np.float32))
    with pytest.raises(WsiError, match="multiply by 255"):
        prepared(plan_nuclei([pannuke], [pannuke], pannuke / ".." / "out", split=None))


@pytest.mark.parametrize("mpp", [250, 0.0003])
def test_mpp_in_another_unit_is_refused(mpp):
    with pytest.raises(UsageError, match="not plausible"):
        check_mpp(mpp)


def test_many_and_large_numbers(tmp_path):
    large = np.array([[0, 70000], [90000, 80000]])
    found, notes = checked_instances(large, tmp_path)
    assert found.tolist() == [[0, 1], [3, 2]]
    assert "numbered anew" in notes[0]
    many = np.arange(70000).reshape(700, 100)
    with pytest.raises(WsiError, match="69999 nuclei; a patch can hold 65535"):
        checked_instances(many, tmp_path)
    shared = np.array([[1, 0, 1, 0, 2]])
    assert "share their numbers" in checked_instances(shared, tmp_path)[1][0]


def test_the_patients_of_tnbc(data_folder, tmp_path):
    split = Split(case=r"^tnbc_(\d+)")
    folders = [data_folder / "tnbc" / kind for kind in ("images", "inst")]
    made = plan_nuclei([folders[0]], [folders[1]], tmp_path / "out", split=split, mpp=0.25)
    assert (len(made.patches), len({patch.case for patch in made.patches})) == (37, 8)
    splits = {name: {p.case for p in made.patches if p.split == name} for name in ("test", "train")}
    assert not splits["test"] & splits["train"]
