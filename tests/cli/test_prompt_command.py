"""``wsi-prompt``: files of prompts in, files of masks out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import shapely
from command_line import ended, quick_help
from prompt_stub import DiscNetwork, disc_model, disc_picture, write_discs
from shapely.geometry import mapping, shape

from wsi_sampath.cli import prompt as command
from wsi_sampath.inference import segmenter
from wsi_sampath.outputs.qupath.rules import check_geojson
from wsi_sampath.slides.readers.base import TileError
from wsi_sampath.slides.slide import Slide

SIDE = 96
MINE = "0a1b2c3d-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def discs():
    return disc_picture(200, 300)


@pytest.fixture(scope="module")
def slides(discs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    write_discs(folder / "one.tiff", discs)
    write_discs(folder / "two.tiff", np.flip(discs, axis=1))
    return folder


@pytest.fixture
def network(monkeypatch):
    network = DiscNetwork()
    model = disc_model(SIDE, network=network)
    monkeypatch.setattr(segmenter, "load_from_settings", lambda _settings: model)
    return network


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, network):
    monkeypatch.setenv("WSI_SAMPATH_CACHE", str(tmp_path / "cache"))

    def run(*words):
        monkeypatch.chdir(tmp_path)
        code = ended(monkeypatch, command.main, "wsi-prompt", *words, "--device", "cpu")
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def middles(discs, count=12):
    """Return number, x and y of discs whose middle is their own."""
    found = []
    for number in range(1, discs.max() + 1):
        ys, xs = np.nonzero(discs == number)
        if len(ys) > 60 and discs[round(ys.mean()), round(xs.mean())] == number:
            found.append((number, round(xs.mean()), round(ys.mean())))
    return found[:: max(1, len(found) // count)]


def feature(geometry, **properties):
    return {
        "type": "Feature",
        "geometry": mapping(geometry),
        "properties": {"objectType": "annotation", **properties},
    }


def write_prompts(path, features):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def clicks(path, discs):
    features = [
        feature(shapely.Point(x + 0.5, y + 0.5), name=f"disc {number}")
        for number, x, y in middles(discs)
    ]
    return write_prompts(path, features)


def areas(path):
    content = json.loads(path.read_text())
    return {one["properties"]["name"]: shape(one["geometry"]).area for one in content["features"]}


def test_every_kind_of_prompt_comes_back_as_its_disc(run, slides, discs, tmp_path):
    (a, ax, ay), (b, bx, by), (c, cx, cy), (d, dx, dy) = middles(discs)[:4]
    red = {"name": "Tumor", "color": [200, 0, 0]}
    prompts = write_prompts(
        tmp_path / "prompts.geojson",
        [
            {**feature(shapely.Point(ax, ay), name="a", classification=red), "id": MINE},
            feature(shapely.box(bx - 5, by - 5, bx + 5, by + 5), name="b"),
            feature(shapely.Point(cx, cy).buffer(6), name="c"),
            feature(shapely.LineString([(dx, dy), (dx + 2, dy + 1)]), name="d"),
            feature(shapely.Point(9000, 5), name="far"),
        ],
    )
    out = tmp_path / "new" / "masks.geojson"
    code, told, warned = run(slides / "one.tiff", "--prompts", prompts, "--out", out)
    assert code == 0
    assert "4 masks, 1 without a mask" in told
    assert "object 5 ('far'): it lies outside the slide (300 x 200 px)" in warned
    sizes = {
        name: int((discs == number).sum())
        for name, number in zip("abcd", (a, b, c, d), strict=True)
    }
    assert areas(out) == sizes
    assert check_geojson(out) == []
    features = json.loads(out.read_text())["features"]
    assert [one["properties"]["name"] for one in features] == list("abcd")
    assert features[0]["id"] == MINE
    assert features[0]["properties"]["classification"] == red
    measured = features[0]["properties"]["measurements"]
    assert measured["quality"] == pytest.approx(0.95)
    assert measured["mpp"] == 0.25
    assert measured["Area µm^2"] == pytest.approx(sizes["a"] / 16, abs=0.01)


def test_the_same_command_again_does_nothing(run, network, slides, discs, tmp_path):
    words = (slides / "one.tiff", "-p", clicks(tmp_path / "p.geojson", discs), "-o", "m.geojson")
    assert run(*words)[0] == 0
    before, looks = (tmp_path / "m.geojson").read_bytes(), network.looks
    code, told, _ = run(*words)
    assert (code, network.looks) == (0, looks)
    assert "finished before" in told
    assert run(*words, "--pick", "largest")[0] == 0
    assert (tmp_path / "m.geojson").read_bytes() != before


def test_a_stopped_run_goes_on_to_the_same_bytes(run, network, slides, discs, tmp_path):
    words = (slides / "one.tiff", "-p", clicks(tmp_path / "p.geojson", discs), "--cache-gib", "0")
    assert run(*words, "-o", "whole.geojson")[0] == 0
    answer, asked = network.masks, []

    def stopped(embedding, prompts, *, multimask=True):
        asked.append(1)
        if len(asked) == 5:
            raise KeyboardInterrupt
        return answer(embedding, prompts, multimask=multimask)

    network.masks = stopped
    code, _, told = run(*words, "-o", "cut.geojson")
    assert code == 1
    assert "interrupted" in told
    assert not (tmp_path / "cut.geojson").exists()
    assert run(*words, "-o", "cut.geojson")[0] == 0
    # The one that was interrupted is asked again, and no other.
    assert len(asked) == len(middles(discs)) + 1
    assert (tmp_path / "cut.geojson").read_bytes() == (tmp_path / "whole.geojson").read_bytes()
    assert not list(tmp_path.glob("cut.geojson?*"))


def test_a_folder_of_slides_has_a_folder_of_prompts(run, slides, discs, tmp_path):
    folder = tmp_path / "prompts"
    folder.mkdir()
    clicks(folder / "one.geojson", discs)
    clicks(folder / "two.tiff.geojson", np.flip(discs, axis=1))
    (folder / "three.csv").write_text("x,y\n5,5\n")
    code, _, told = run(slides, "--prompts", folder, "--out", tmp_path / "out")
    assert code == 0
    assert "1 file of prompts without a slide (three.csv)" in told
    one, two = (areas(tmp_path / "out" / f"{name}.geojson") for name in ("one", "two"))
    assert len(one) == len(middles(discs))
    assert two


def test_prompts_lie_in_folders_as_their_slides(run, slides, discs, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "one.TIFF").symlink_to(slides / "one.tiff")
    (tmp_path / "prompts" / "b").mkdir(parents=True)
    clicks(tmp_path / "prompts" / "one.GeoJSON", discs)
    words = ("in", "--prompts", "prompts", "--out", "prompts/out")
    code, _, warned = run(*words)
    assert code == 2
    assert "goes with in/a/one.TIFF and with in/b/one.TIFF" in warned
    clicks(tmp_path / "prompts" / "b" / "one.tiff.json", discs)
    assert run(*words)[0] == 2
    (tmp_path / "prompts" / "b" / "one.tiff.json").rename(tmp_path / "prompts/b/one.TIFF.JSON")
    for _ in range(2):
        code, told, warned = run(*words)
        assert code == 0
        assert "without a slide" not in warned
    assert sorted(path.parent.name for path in (tmp_path / "prompts/out").rglob("*.geojson")) == [
        "a",
        "b",
    ]


def test_a_list_states_the_mpp_of_its_slides(run, slides, discs, tmp_path):
    rows = [f"{slides / name},{mpp}" for name, mpp in (("one.tiff", 0.5), ("two.tiff", ""))]
    (tmp_path / "list.csv").write_text("\n".join(["slide,mpp", *rows]))
    (tmp_path / "prompts").mkdir()
    clicks(tmp_path / "prompts" / "one.geojson", discs)
    words = ("list.csv", "--prompts", "prompts", "--out", "out")
    for more, mpp in (((), 0.5), (("--slide-mpp", "0.2"), 0.2)):
        assert run(*words, *more)[0] == 0
        (found, *_) = json.loads((tmp_path / "out" / "one.geojson").read_text())["features"]
        area = shape(found["geometry"]).area * mpp**2
        assert found["properties"]["measurements"]["Area µm^2"] == pytest.approx(area, abs=0.01)


def test_one_slide_that_fails_stops_no_other(run, slides, discs, tmp_path):
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "one.geojson").write_text("{")
    clicks(folder / "two.geojson", np.flip(discs, axis=1))
    code, told, warned = run(slides, "--prompts", folder, "--out", tmp_path / "out")
    assert code == 1
    assert warned.count("error:") == 1
    assert "one.geojson" in warned
    assert "two.geojson" in told


def test_tables_of_points_are_prompts(run, slides, discs, tmp_path):
    rows = [f"{x},{y},disc {number}" for number, x, y in middles(discs)]
    (tmp_path / "points.csv").write_text("\n".join(["x,y,name", *rows]))
    assert run(slides / "one.tiff", "-p", "points.csv", "-o", "m.geojson.gz")[0] == 0
    assert check_geojson(tmp_path / "m.geojson.gz") == []


def test_rough_outlines_are_refined(run, slides, discs, tmp_path):
    (number, x, y), (_, far_x, far_y) = middles(discs)[:2]
    prompts = write_prompts(
        tmp_path / "rough.geojson",
        [
            feature(shapely.box(x - 6, y - 6, x + 6, y + 6), name="rough"),
            feature(shapely.Point(far_x, far_y), name="point"),
        ],
    )
    code, _, told = run(slides / "one.tiff", "-p", prompts, "-o", "m.geojson", "--refine")
    assert code == 0
    assert "1 prompts without an area are not refined" in told
    assert areas(tmp_path / "m.geojson") == {"rough": (discs == number).sum()}


def test_what_was_looked_at_beforehand_is_not_looked_at_again(
    run, network, slides, discs, tmp_path
):
    code, told, _ = run("precompute", slides / "one.tiff", "--region", 0, 0, 150, 200)
    assert code == 0
    looks = network.looks
    assert f"{looks} squares" in told
    code, told, _ = run("precompute", slides / "one.tiff")
    assert f"{looks} seen before" in told
    looks = network.looks
    words = ("-p", clicks(tmp_path / "p.geojson", discs), "-o", "m.geojson")
    assert run(slides / "one.tiff", *words)[0] == 0
    assert network.looks == looks


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("{one}", "-p", "lacking.geojson", "-o", "m.geojson"), "there is no such file"),
        (("{one}", "-p", "{prompts}", "-o", "m.png"), "must end in .geojson"),
        (("{one}", "-p", "{prompts}", "-o", "{prompts}"), "is the file of prompts itself"),
        (("{one}", "-p", "{prompts}", "-o", "foreign.json"), "not ours"),
        (("{folder}", "-p", "{prompts}", "-o", "out"), "is not a folder"),
        (("{folder}", "-p", "empty", "-o", "out"), "no file named as one of the slides"),
        (("lacking.svs", "-p", "{prompts}", "-o", "m.geojson"), "lacking.svs"),
        (("precompute", "{one}", "--cache-gib", "0"), "keeps nothing"),
        (("precompute", "{one}", "--region", "900", "0", "5", "5"), "outside of the slide"),
        (("{one}", "-p", "{prompts}", "-o", "m.geojson", "--pick", "first"), "--pick"),
    ],
)
def test_what_is_wrong_is_one_line(run, slides, discs, tmp_path, words, told):
    names = {
        "one": slides / "one.tiff",
        "folder": slides,
        "prompts": clicks(tmp_path / "p.geojson", discs),
    }
    (tmp_path / "foreign.json").write_text('{"type": "FeatureCollection", "features": [1]}')
    (tmp_path / "empty").mkdir()
    code, _, said = run(*(word.format(**names) for word in words))
    assert code in (1, 2)
    assert told in said
    assert said.count("\n") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize("suffix", ["geojson", "json.gz", "geojson.zip"])
def test_no_mask_at_all_stays_a_failure(run, network, slides, discs, tmp_path, suffix):
    words = (slides / "one.tiff", "-p", clicks(tmp_path / "p.geojson", discs), "-o", f"m.{suffix}")
    answer = network.masks
    network.masks = lambda *given, **more: tuple(-abs(one) for one in answer(*given, **more))
    for _ in range(2):
        code, told, warned = run(*words)
        assert code == 1
        assert "0 masks" in told
        assert "the network sees nothing there" in warned
    network.masks = answer
    assert run(*words)[0] == 0


def test_prompts_count_from_the_bounds_as_qupath_does(run, slides, discs, tmp_path, monkeypatch):
    number, x, y = middles(discs)[3]
    monkeypatch.setattr(Slide, "bounds_offset", (30, -20))
    shifted = feature(shapely.Point(x - 30 + 0.5, y + 20 + 0.5), name="disc")
    prompts = write_prompts(tmp_path / "p.geojson", [shifted])
    assert run(slides / "one.tiff", "-p", prompts, "-o", "m.geojson")[0] == 0
    (found,) = json.loads((tmp_path / "m.geojson").read_text())["features"]
    outline = shape(found["geometry"])
    assert outline.area == (discs == number).sum()
    assert outline.contains(shape(shifted["geometry"]))


def test_what_cannot_be_decoded_fails_its_own_prompts(run, slides, discs, tmp_path, monkeypatch):
    read = Slide.read_sampled

    def broken(self, sampling, x, y, width, height):
        if x == 0:
            raise TileError("a tile is broken")
        return read(self, sampling, x, y, width, height)

    monkeypatch.setattr(Slide, "read_sampled", broken)
    prompts = clicks(tmp_path / "p.geojson", discs)
    code, _, told = run(slides / "one.tiff", "-p", prompts, "-o", "m.geojson")
    assert code == 0
    lost = [name for name in (f"disc {n}" for n, *_ in middles(discs)) if f"'{name}'" in told]
    assert 0 < len(lost) < len(middles(discs))
    assert told.count("the slide cannot be decoded there: a tile is broken") == len(lost)
    assert set(areas(tmp_path / "m.geojson")) == {f"disc {n}" for n, *_ in middles(discs)} - {*lost}


def test_no_answer_at_all_is_a_failure(run, slides, tmp_path):
    prompts = write_prompts(tmp_path / "p.geojson", [feature(shapely.Point(9000, 5))])
    code, _, told = run(slides / "one.tiff", "-p", prompts, "-o", "m.geojson")
    assert code != 0
    assert "holds no prompt that can be used" in told


@pytest.mark.parametrize("words", [(), ("precompute",)])
def test_help_waits_for_no_torch(words):
    told = quick_help("wsi-prompt", *words, without={"torch", "scipy", "shapely"})
    assert "--cache-gib" in told
