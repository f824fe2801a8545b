"""Files of a result belong together, and nothing that is not ours is ever replaced."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
import zarr
from made_result import class_images
from stub_network import StubNetwork, make_stub

from wsi_sampath import open_result
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.inference import segmenter as run_module
from wsi_sampath.inference.durable import work as work_module
from wsi_sampath.inference.durable.work import WorkFolder
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.outputs.belonging import report_run
from wsi_sampath.outputs.omezarr.images import PyramidSpec
from wsi_sampath.outputs.omezarr.ngff import PlaneScale
from wsi_sampath.outputs.omezarr.stored_rows import StoredRows
from wsi_sampath.outputs.qupath.packing import run_of
from wsi_sampath.outputs.qupath.rules import check_geojson
from wsi_sampath.progress import Silent

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [2900, 0], [2900, 2000], [0, 2000], [0, 0]]]}
MINE = json.dumps({"type": "Feature", "geometry": SQUARE, "properties": {"name": "mine"}})
BASE = {"workers": 2, "device": "cpu", "region": (900, 700, 700, 600), "tissue": "none"}


class Listening(Silent):
    def __init__(self):
        self.heard = []

    def warn(self, message):
        self.heard.append(message)


def run(painted, out, *, network=None, progress=None, **values):
    return segment_slide(
        painted.path,
        out,
        settings=SegmentSettings.build({**BASE, "report": False, **values}),
        model=make_stub(network=network),
        progress=progress,
    )


def refused(words, painted, out, **values):
    with pytest.raises(WsiError, match=words) as caught:
        run(painted, out, **values)
    assert caught.value.reason in ("bad-input", "busy")
    return caught.value


def unchanged(path):
    """What changes where a file is written or replaced, and not where it is looked at."""
    stat = path.lstat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_mode


class Stopping(StubNetwork):
    def __init__(self, after):
        super().__init__()
        self.after = after

    def forward(self, images):
        if sum(self.calls) >= self.after:
            raise KeyboardInterrupt
        return super().forward(images)


@pytest.fixture
def foreign(tmp_path):
    """Make a file of somebody else's, and say what must still be there."""

    def make(kind, path):
        if kind == "link":
            (tmp_path / "theirs.txt").write_text(MINE)
            path.symlink_to(tmp_path / "theirs.txt")
        elif kind == "folder":
            path.mkdir()
        elif kind == "gzip":
            path.write_bytes(gzip.compress(MINE.encode()))
        else:
            path.write_text(kind)
        return path

    return make


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", [MINE, "{}", "text", "link", "folder"])
def test_a_geojson_of_somebody_else_is_never_replaced(painted, tmp_path, foreign, kind, force):
    path = foreign(kind, tmp_path / "a.geojson")
    before = unchanged(path)
    refused("not ours; .*--geojson", painted, tmp_path / "a.zarr", force=force)
    assert unchanged(path) == before
    assert not (tmp_path / "a.zarr").exists()
    assert not (tmp_path / "a.zarr.partial").exists()
    assert run(painted, tmp_path / "a.zarr", geojson=str(tmp_path / "b.geojson")).zarr.exists()
    assert unchanged(path) == before


def test_a_dangling_link_and_a_foreign_container_are_left_too(painted, tmp_path, foreign):
    (tmp_path / "a.geojson").symlink_to(tmp_path / "nowhere")
    refused("not ours", painted, tmp_path / "a.zarr")
    path = foreign("gzip", tmp_path / "b.geojson.gz")
    refused("not ours", painted, tmp_path / "a.zarr", geojson=str(path), force=True)
    assert gzip.decompress(path.read_bytes()).decode() == MINE


def test_the_mask_of_the_run_is_never_replaced(painted, tmp_path):
    mask = tmp_path / "a.geojson"
    mask.write_text(MINE)
    refused("own tissue mask.*--geojson", painted, tmp_path / "a.zarr", tissue=str(mask))
    assert mask.read_text() == MINE
    mask.unlink()
    ours = run(painted, tmp_path / "a.zarr").geojson
    shutil.rmtree(tmp_path / "a.zarr")
    refused("own tissue mask", painted, tmp_path / "a.zarr", tissue=str(ours), force=True)
    assert run_of(ours) is not None


@pytest.mark.parametrize("force", [False, True])
def test_a_report_of_somebody_else_is_never_replaced(painted, tmp_path, force):
    (tmp_path / "a.html").write_text("<html>my notes</html>")
    refused("report.*--no-report", painted, tmp_path / "a.zarr", report=True, force=force)
    run(painted, tmp_path / "a.zarr")
    refused("report.*--no-report", painted, tmp_path / "a.zarr", report=True)
    assert (tmp_path / "a.html").read_text() == "<html>my notes</html>"


def test_what_somebody_put_into_a_result_is_not_lost_by_force(painted, tmp_path):
    made = run(painted, tmp_path / "a.zarr")
    (made.zarr / ".DS_Store").write_text("litter")
    assert run(painted, tmp_path / "a.zarr", overlap=32, force=True)
    (made.zarr / "labels" / "mine").mkdir()
    refused("labels/mine", painted, tmp_path / "a.zarr", force=True)
    assert (made.zarr / "labels" / "mine").is_dir()
    assert run(painted, tmp_path / "a.zarr", overlap=32).reused


def test_a_file_that_comes_while_the_slide_runs_is_not_replaced(painted, tmp_path):
    class Late(StubNetwork):
        def forward(self, images):
            (tmp_path / "a.geojson").write_text(MINE)
            return super().forward(images)

    refused("not ours", painted, tmp_path / "a.zarr", network=Late())
    assert (tmp_path / "a.geojson").read_text() == MINE
    (tmp_path / "a.geojson").unlink()
    network = StubNetwork()
    run(painted, tmp_path / "a.zarr", network=network)
    assert sum(network.calls) == 0


@pytest.mark.parametrize(
    "place", ["a.zarr/p.geojson", "a.zarr.partial/p.geojson", "b.zarr/x/p.json"]
)
def test_polygons_do_not_go_inside_a_zarr(painted, tmp_path, place):
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "b.zarr" / ".zgroup").write_text("{}")
    with pytest.raises(UsageError, match="inside"):
        run(painted, tmp_path / "a.zarr", geojson=str(tmp_path / place))
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize("suffix", [".geojson", ".geojson.gz", ".geojson.zip"])
def test_every_file_bears_the_run(painted, tmp_path, suffix):
    made = run(painted, tmp_path / "a.zarr", report=True, geojson=str(tmp_path / f"a{suffix}"))
    run_id = made.attributes["run_id"]
    assert run_of(made.geojson) == report_run(made.report) == run_id
    assert check_geojson(made.geojson) == []
    assert made.attributes["geojson_content"]["bytes"] == made.geojson.stat().st_size
    assert open_result(made.zarr).polygons()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["a.html", f"a{suffix}", "a.zarr"])


def edit(path):
    text = path.read_text().replace('"class 1"', '"Class 1"')
    assert text != path.read_text()
    path.write_text(text)


@pytest.mark.parametrize("text", ["{}", '{"type":"FeatureCollection","features":[]}'])
def test_a_replaced_geojson_is_noticed(painted, tmp_path, text):
    made = run(painted, tmp_path / "a.zarr")
    made.geojson.write_text(text)
    refused("not the file that the run wrote", painted, tmp_path / "a.zarr")
    with pytest.raises(WsiError, match=r"a\.geojson: bad-input: is not the file"):
        open_result(made.zarr)
    assert made.geojson.read_text() == text
    made.geojson.unlink()
    assert open_result(made.zarr).geojson is None
    again = run(painted, tmp_path / "a.zarr")
    assert open_result(again.zarr).polygons()


def test_an_edited_geojson_is_kept_unless_forced(painted, tmp_path):
    made = run(painted, tmp_path / "a.zarr")
    edit(made.geojson)
    refused("changed since.*--force", painted, tmp_path / "a.zarr")
    with pytest.raises(WsiError, match="changed since"):
        open_result(made.zarr)
    run(painted, tmp_path / "a.zarr", force=True)
    assert open_result(made.zarr).polygons()


@pytest.mark.parametrize("suffix", [".geojson", ".geojson.gz", ".geojson.zip"])
@pytest.mark.parametrize("keep", [0, 300, -1])
def test_a_torn_geojson_is_made_again(painted, tmp_path, suffix, keep):
    geojson = str(tmp_path / f"a{suffix}")
    made = run(painted, tmp_path / "a.zarr", geojson=geojson)
    whole = made.geojson.read_bytes()
    made.geojson.write_bytes(whole[:keep])
    progress = Listening()
    assert not run(painted, tmp_path / "a.zarr", geojson=geojson, progress=progress).reused
    assert made.geojson.read_bytes() == whole
    assert any("made again" in heard for heard in progress.heard)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("damage", ["gone", "cut", "zeros"])
def test_maps_that_lost_a_chunk_are_noticed_and_made_again(painted, tmp_path, zarr_format, damage):
    made = run(painted, tmp_path / "a.zarr", zarr_format=zarr_format)
    folder = made.zarr / "labels" / "classes" / "0"
    chunk = next(
        path for path in sorted(folder.rglob("*")) if path.name.isdecimal() and path.is_file()
    )
    whole = chunk.read_bytes()
    if damage == "gone":
        chunk.unlink()
    else:
        chunk.write_bytes(whole[:-5] if damage == "cut" else bytes(len(whole)))
    with pytest.raises(WsiError, match="1 of its [0-9]+ chunks are missing or cut off"):
        open_result(made.zarr)
    progress = Listening()
    assert not run(painted, tmp_path / "a.zarr", zarr_format=zarr_format, progress=progress).reused
    assert chunk.read_bytes() == whole
    assert any("made again" in heard for heard in progress.heard)


def test_maps_corrected_by_hand_are_not_damaged(painted, tmp_path):
    made = run(painted, tmp_path / "a.zarr")
    labels = zarr.open_array(str(made.zarr / "labels" / "classes" / "0"), mode="r+")
    labels[-200:, -200:] = 2
    assert open_result(made.zarr).read_labels()[-1, -1] == 2
    assert run(painted, tmp_path / "a.zarr").reused


def test_a_report_of_another_run_or_a_torn_one_is_made_again(painted, tmp_path):
    made = run(painted, tmp_path / "a.zarr", report=True)
    text = made.report.read_text()
    for other in (text[:-200], "", text.replace(made.attributes["run_id"], "0" * 32)):
        made.report.write_text(other)
        assert run(painted, tmp_path / "a.zarr", report=True).reused
        assert report_run(made.report) == made.attributes["run_id"]
        assert made.report.read_text().rstrip().endswith("</html>")


def test_two_runs_with_one_geojson_do_not_mix(painted, tmp_path):
    same = str(tmp_path / "same.geojson")

    class Meanwhile(StubNetwork):
        def forward(self, images):
            if not self.calls:
                refused("choose another --geojson", painted, tmp_path / "b.zarr", geojson=same)
            return super().forward(images)

    made = run(painted, tmp_path / "a.zarr", network=Meanwhile(), geojson=same)
    assert open_result(made.zarr).polygons()
    for force in (False, True):
        error = refused(
            r"polygons of a\.zarr",
            painted,
            tmp_path / "b.zarr",
            geojson=same,
            overlap=32,
            force=force,
        )
        assert "--geojson" in error.message
    assert open_result(made.zarr).polygons()
    assert not list(tmp_path.glob("*.claim"))
    shutil.rmtree(made.zarr)
    run(painted, tmp_path / "b.zarr", geojson=same, overlap=32)


@pytest.mark.parametrize(
    ("first", "second"), [("x.geojson", "y.geojson"), ("x.json", "y.geojson.zip")]
)
@pytest.mark.parametrize("closed", [False, True])
def test_a_resume_under_another_name_follows(painted, tmp_path, monkeypatch, first, second, closed):
    region = (0, 0, 700, 2000)
    with monkeypatch.context() as patch:
        if closed:
            patch.setattr(WorkFolder, "publish", interrupt)
        network = StubNetwork() if closed else Stopping(after=20)
        with pytest.raises(WsiError, match="interrupted"):
            run(
                painted,
                tmp_path / "a.zarr",
                network=network,
                region=region,
                batch_size=2,
                geojson=str(tmp_path / first),
            )
    made = run(painted, tmp_path / "a.zarr", region=region, geojson=str(tmp_path / second))
    assert made.attributes["resumed_after_strip"] is not None
    whole = run(
        painted, tmp_path / "w" / "a.zarr", region=region, geojson=str(tmp_path / "w" / second)
    )
    assert made.geojson.read_bytes() == whole.geojson.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["a.zarr", second, "w"])


def interrupt(*_, **__):
    raise KeyboardInterrupt


class Killed(BaseException):
    """Nothing catches it: what a kill leaves."""


@pytest.mark.parametrize("at", ["_move", "rename", "rmtree"])
@pytest.mark.parametrize("again", ["same", "same, forced", "the first"])
def test_a_kill_while_files_are_put_in_place_is_ended_by_any_next_run(
    painted, tmp_path, monkeypatch, at, again
):
    first = run(painted, tmp_path / "a.zarr", report=True)
    old = first.geojson.read_bytes()

    def kill(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        target = {"_move": work_module, "rename": Path, "rmtree": work_module.shutil}[at]
        publish = WorkFolder.publish

        def dying(self, place):
            patch.setattr(target, at, kill)
            publish(self, place)

        patch.setattr(WorkFolder, "publish", dying)
        with pytest.raises(Killed):
            run(painted, tmp_path / "a.zarr", overlap=32, force=True, report=True)
    if at == "rename":
        with pytest.raises(WsiError, match="another run"):
            open_result(first.zarr)
    network = StubNetwork()
    if again == "the first":
        refused("overlap was 32, now None", painted, tmp_path / "a.zarr", network=network)
    else:
        force = again == "same, forced"
        made = run(
            painted,
            tmp_path / "a.zarr",
            network=network,
            overlap=32,
            force=force and at != "rmtree",
            report=True,
        )
        assert made.attributes["settings"]["overlap"] == 32
    assert sum(network.calls) == 0
    result = open_result(first.zarr)
    assert result.attributes["settings"]["overlap"] == 32
    assert run_of(result.geojson) == result.attributes["run_id"]
    assert result.geojson.read_bytes() != old
    assert result.polygons()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.geojson", "a.html", "a.zarr"]


def test_polygons_go_to_another_disk(painted, tmp_path, monkeypatch):
    replace = Path.replace

    def across(self, target):
        if self.name == "polygons.geojson" and Path(target).name == "far.geojson":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", across)
    made = run(painted, tmp_path / "a.zarr", geojson=str(tmp_path / "far" / "far.geojson"))
    assert open_result(made.zarr).polygons()
    assert [p.name for p in (tmp_path / "far").iterdir()] == ["far.geojson"]


def test_a_full_disk_at_the_first_claim_leaves_nothing(painted, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_module.Claim, "_create", full)
    with pytest.raises(WsiError, match="disk-full"):
        run(painted, tmp_path / "new" / "deep" / "a.zarr")
    assert list(tmp_path.iterdir()) == []


# What a power loss tears.

ROWS = {"region": (0, 0, 400, 2300), "output_mpp": 0.5, "batch_size": 2}


@pytest.fixture(scope="module")
def stopped(painted, tmp_path_factory):
    """A run that rests, with whole chunks on disk; and what it must end as."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(WsiError, match="interrupted"):
        run(painted, folder / "a.zarr", network=Stopping(after=20), **ROWS)
    run(painted, folder / "whole" / "a.zarr", **ROWS)
    return folder


def stored(folder):
    files = [p for p in (folder / "a.zarr").rglob("*") if p.is_file() and p.name != ".zattrs"]
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}
    return {**found, "geojson": (folder / "a.geojson").read_bytes()}


def newest(work, pattern):
    return sorted(work.glob(pattern))[-1]


TEARS = {
    "strip cut": lambda work: cut(newest(work, "ledger/*.strip"), 50),
    "strip blank": lambda work: blank(newest(work, "ledger/*.strip")),
    "strip one bit": lambda work: flip(newest(work, "ledger/*.strip")),
    "all strips empty": lambda work: [cut(p, 0) for p in work.glob("ledger/*.strip")],
    "identity blank": lambda work: blank(work / "ledger" / "identity.json"),
    "polygons short": lambda work: (work / "polygons.partial").write_bytes(b"x"),
    "polygons one bit": lambda work: flip(work / "polygons.partial"),
    "polygons end blank": lambda work: blank(work / "polygons.partial", 200),
    "polygons gone": lambda work: (work / "polygons.partial").unlink(),
    "chunk cut": lambda work: cut(work / "maps.zarr" / "labels" / "classes" / "0" / "0" / "0", 20),
    "chunk gone": lambda work: (work / "maps.zarr" / "0" / "1" / "0" / "0").unlink(),
    "maps gone": lambda work: shutil.rmtree(work / "maps.zarr"),
    "journal blank": lambda work: (work / "publishing.json").write_bytes(bytes(50)),
    "journal nonsense": lambda work: (work / "publishing.json").write_text('{"polygons": 1}'),
}


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


def blank(path, last=None):
    data = path.read_bytes()
    last = len(data) if last is None else last
    path.write_bytes(data[: len(data) - last] + bytes(last))


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("tear", TEARS)
def test_torn_state_is_done_again(painted, tmp_path, stopped, tear):
    work = tmp_path / "a.zarr.partial"
    shutil.copytree(stopped / "a.zarr.partial", work)
    TEARS[tear](work)
    progress = Listening()
    made = run(painted, tmp_path / "a.zarr", progress=progress, **ROWS)
    assert stored(tmp_path) == stored(stopped / "whole")
    assert open_result(made.zarr).polygons()
    said = any("damaged" in heard for heard in progress.heard)
    assert said or tear in ("identity blank", "maps gone", "journal blank", "journal nonsense")
    resumed = made.attributes["resumed_after_strip"]
    if tear in ("strip cut", "strip blank", "strip one bit", "polygons end blank"):
        assert resumed is not None, "only the last strips are lost"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.geojson", "a.zarr"]


def test_stored_rows_are_the_same_in_one_pass_or_many(stopped):
    maps = stopped / "whole" / "a.zarr"
    images = class_images(make_stub().spec.classes)
    height, width = open_result(maps).read_labels().shape
    spec = PyramidSpec("s", height, width, PlaneScale(1, 1, 1, 1), images)
    known = StoredRows()
    for rows in (0, 1024, 2048):
        known = known.upto(rows, maps, spec)
    assert known == StoredRows().upto(2048, maps, spec)
    assert known.digest


def test_a_folder_that_another_mounted_is_the_same(painted, tmp_path):
    run(painted, tmp_path / "a.zarr", report=True)
    (tmp_path / "b").mkdir()
    for name in ("a.zarr", "a.geojson", "a.html"):
        os.rename(tmp_path / name, tmp_path / "b" / name)
    assert run(painted, tmp_path / "b" / "a.zarr", report=True).reused


def test_a_zip_of_ours_is_known_by_its_first_member(painted, tmp_path):
    path = tmp_path / "a.geojson.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mine.geojson", MINE)
    refused("not ours", painted, tmp_path / "a.zarr", geojson=str(path), force=True)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["mine.geojson"]


def test_a_resumed_run_says_how_much_is_there(painted, tmp_path):
    class Noting(Silent):
        def __init__(self):
            self.starts = []

        def begin(self, start):
            self.starts.append(start)

    fresh, resumed = Noting(), Noting()
    options = {"region": (0, 0, 700, 2000), "batch_size": 2, "polygons": False}
    with pytest.raises(WsiError, match="interrupted"):
        run(painted, tmp_path / "a.zarr", network=Stopping(after=20), progress=fresh, **options)
    made = run(painted, tmp_path / "a.zarr", progress=resumed, **options)
    (first,), (second,) = fresh.starts, resumed.starts
    assert first.n_done == 0
    assert not any("resuming" in line for line in first.lines)
    assert 0 < second.n_done < second.n_tiles == first.n_tiles
    told = f"; resuming: {second.n_done} of {second.n_tiles} tiles are done"
    assert second.lines[1] == first.lines[1] + told
    assert repr(made).startswith("Result(")
    assert len(repr(made)) < 300
