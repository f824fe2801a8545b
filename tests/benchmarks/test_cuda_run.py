"""The prepared run on a CUDA machine: what fails or overruns is told, and the rest goes on."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import cuda_parts  # noqa: E402
import cuda_run  # noqa: E402
import cuda_slide  # noqa: E402
import cuda_wheels  # noqa: E402

from wsi_sampath.cli import segment  # noqa: E402

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
WRITES = "import sys; rows = open(sys.argv[1], 'a'); print({!r}, file=rows, flush=True); "


def part(code, seconds=30, row='{"a": 1}'):
    return cuda_run.Planned([sys.executable, "-c", WRITES.format(row) + code], seconds)


def run(parts, out, seconds=60):
    ends = time.perf_counter() + seconds
    records = cuda_run.run_all(parts, out, ends=ends, shared={"commit": "abc"})
    stored = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    assert stored == {record["part"]: record for record in records}
    return stored


def test_what_crashes_or_overruns_is_recorded_and_the_next_part_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(cuda_run, "LEAST_S", 0.1)
    parts = {
        "crashing": part("raise SystemExit('no such kernel')"),
        "killed": part("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
        "endless": part("import time; time.sleep(60)", seconds=1),
        "fine": part(""),
    }
    stored = run(parts, tmp_path)
    assert {name: one["fate"] for name, one in stored.items()} == {
        "crashing": "failed",
        "killed": "failed",
        "endless": "stopped",
        "fine": "finished",
    }
    assert stored["crashing"]["error"] == "no such kernel"
    assert "stopped after 1 s" in stored["endless"]["error"]
    assert stored["endless"]["seconds"] < 20
    assert all(one["rows"] == [{"a": 1}] and one["commit"] == "abc" for one in stored.values())
    assert [name for name, one in stored.items() if cuda_run.is_well(one)] == ["fine"]


def test_nothing_starts_when_the_whole_has_no_time_left(tmp_path):
    stored = run({"late": part("")}, tmp_path, seconds=1)
    assert stored["late"]["fate"] == "skipped"
    assert stored["late"]["rows"] == []


def test_a_row_that_was_being_written_is_left_out(tmp_path):
    stored = run({"cut": part("rows.write('{\"b\": ')")}, tmp_path)
    assert stored["cut"]["rows"] == [{"a": 1}]


def test_a_failed_row_counts_though_its_part_finished(tmp_path):
    row = '{"variant": "flex", "failed": "no compiler"}'
    stored = run({"forward": part("", row=row)}, tmp_path)
    assert stored["forward"]["fate"] == "finished"
    assert not cuda_run.is_well(stored["forward"])
    assert "no compiler" in cuda_run.told(stored["forward"])


def test_what_a_part_runs_on_stands_above_its_rows(tmp_path):
    stored = run({"one": part("", row='{"about": {"gpu": null}}')}, tmp_path)
    assert stored["one"]["gpu"] is None
    assert stored["one"]["rows"] == []


@pytest.mark.parametrize("name", ["torch-2.11.0-cp312.whl", "nvidia_cublas-13.whl", "numpy-2.whl"])
def test_a_wheel_that_would_replace_the_torch_there_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(SystemExit, match="torch"):
        cuda_wheels.install_command(tmp_path, tmp_path / "site")


def test_wheels_that_are_too_large_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(cuda_wheels, "MOST_BYTES", 100)
    (tmp_path / "zarr-3-py3.whl").write_bytes(b"x" * 101)
    with pytest.raises(SystemExit, match="MiB"):
        cuda_wheels.checked(list(tmp_path.iterdir()))


def test_every_listed_package_is_pinned():
    lines = [one for one in cuda_wheels.LIST.read_text().splitlines() if not one.startswith("#")]
    assert lines
    assert all(line.count("==") == 1 for line in lines)


def test_files_with_tests_for_a_gpu_are_found():
    names = {path.name for path in cuda_parts.cuda_tests()}
    assert {"test_cuda.py", "test_precision.py"} <= names
    assert Path(__file__).name not in names


@pytest.mark.parametrize(
    ("printed", "failed"),
    [
        ("ok      torch 2\nPROBLEM wsi-sampath is not installed\nok      self-test: 1 s", None),
        ("PROBLEM reader tiff: no\nok      self-test: 1 s", "PROBLEM reader tiff: no"),
        ("ok      torch 2", "did not come to its end"),
    ],
)
def test_what_the_doctor_finds_is_a_row(monkeypatch, tmp_path, printed, failed):
    monkeypatch.setattr(cuda_parts, "command", lambda *_words, **_options: printed)
    rows = []
    cuda_parts.check_up(cuda_parts.Job(rows.append, tmp_path, smoke=True))
    (row,) = rows
    assert row["doctor"] == printed.splitlines()
    assert failed in row["failed"] if failed else "failed" not in row


def test_all_parts_are_planned_each_in_a_process_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["cuda_run.py", "--smoke"])
    planned = cuda_run.planned(cuda_run.parse(), tmp_path)
    assert list(planned) == list(cuda_parts.PARTS)
    for name, one in planned.items():
        assert one.command[1:] == [
            str(BENCHMARKS / "cuda_parts.py"),
            "--scratch",
            str(tmp_path),
            "--smoke",
            name,
        ]
        assert one.seconds == cuda_run.BUDGET_S


@pytest.mark.slow
def test_the_script_runs_a_part_tiny_on_a_cpu(tmp_path):
    command = [str(BENCHMARKS / "cuda.sh"), "--smoke", "--out", str(tmp_path), "--budget", "500"]
    done = subprocess.run(
        [*command, "--parts", "imports"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("*.json")
    stored = json.loads(path.read_text())
    assert stored["part"] == "imports"
    assert stored["rows"]
    assert stored["smoke"]
    assert stored["versions"]["torch"]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """The folder that all parts of one run have in common."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture
def rows_of(monkeypatch, scratch):
    """Run a part tiny on a CPU, within this process: to import torch takes longer than most."""
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS.parent))

    def run_part(name):
        rows = []
        cuda_parts.PARTS[name].function(cuda_parts.Job(rows.append, scratch, smoke=True))
        assert rows
        assert not [row for row in rows if "failed" in row]
        return [json.loads(json.dumps(row, default=str)) for row in rows]

    return run_part


APART = ("slide-sam-path", "slide-gland-mini")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in cuda_parts.PARTS if name not in APART])
def test_a_part_runs_tiny_on_a_cpu(rows_of, name):
    rows_of(name)


def segment_here(_job, name, *words):
    """Run the command within this process; the other slide's part starts one of its own."""
    assert name == "segment"
    with mock.patch.object(sys, "argv", ["wsi-segment", *words]), pytest.raises(SystemExit) as end:
        segment.main()
    assert not end.value.code


@pytest.mark.slow
@pytest.mark.parametrize("name", APART)
def test_a_slide_runs_tiny_on_a_cpu(monkeypatch, rows_of, name):
    if name != APART[0]:
        monkeypatch.setattr(cuda_slide, "command", segment_here)
    alone, *runs, typed = rows_of(name)
    assert alone["tiles_per_s"] > 0
    assert typed["what"] == "wsi-segment"
    assert runs
    for one in runs:
        assert one["tiles"] > 0
        assert one["needed_px"] > 0
        assert one["gpu_busy_by_events"] is None
