import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import engine  # noqa: E402
import engine_report  # noqa: E402
import environments  # noqa: E402
from measure import Limits, measure  # noqa: E402

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
WIDE = Limits(seconds=60, megabytes=4000)


def python(code):
    return [sys.executable, "-c", code]


def row(who, side, seconds, peak_mb, fate="finished"):
    numbers = {"seconds": seconds, "peak_mb": peak_mb, "cpu_seconds": seconds, "load_before": 0.0}
    rate = {"mpx_per_s": side**2 / 1e6 / seconds, "error": "why"}
    return {"who": who, "side": side, "fate": fate} | numbers | rate


def alive(word):
    """List the processes of the machine that name `word` in their command."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word in command.read_bytes().decode(errors="replace"):
                found.append(command.parent.name)
        except OSError:
            continue
    return found


def test_memory_of_children_is_counted():
    child = "b = bytearray(b'1') * 80_000_000; import time; time.sleep(1)"
    found = measure(
        python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"), WIDE
    )
    assert found["fate"] == "finished"
    assert found["peak_mb"] > 80
    assert found["seconds"] >= 1


def test_a_failure_brings_its_last_words():
    found = measure(python("raise SystemExit('no such slide')"), WIDE)
    assert (found["fate"], found["error"]) == ("failed", "no such slide")


@pytest.mark.parametrize(
    ("code", "limits", "reason"),
    [
        ("import time; time.sleep(50)", Limits(0.3, 4000), "stopped after 0 s"),
        ("b = bytearray(b'1') * 300_000_000; import time; time.sleep(50)", Limits(50, 200), "GB"),
    ],
)
def test_what_goes_past_a_limit_is_stopped_with_all_it_started(code, limits, reason, tmp_path):
    child = f"{code} # {tmp_path}"
    starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    found = measure(python(starter), limits)
    assert found["fate"] == "stopped"
    assert reason in found["error"]
    assert found["seconds"] < 20
    end = time.monotonic() + 10
    while alive(str(tmp_path)) and time.monotonic() < end:
        time.sleep(0.05)
    assert alive(str(tmp_path)) == []


def test_growth_is_foreseen_from_two_slides_and_not_from_one():
    limits = Limits(seconds=1500, megabytes=20_000)
    small, large = row("tiatoolbox", 1024, 15, 1500), row("tiatoolbox", 8192, 66, 5300)
    assert engine.foreseen([small], 32768, limits) == ""
    assert engine.foreseen([small, large], 16384, limits) == ""
    assert "peak_mb" in engine.foreseen([small, large], 32768, limits)
    stopped = row("tiatoolbox", 8192, 66, 5300, fate="stopped")
    assert "8192" in engine.foreseen([small, stopped], 16384, limits)


def test_bars_are_met_and_missed_where_they_should_be():
    rows = [row("tiatoolbox", 1024, 16, 1500), row("tiatoolbox", 8192, 60, 5000)]
    rows += [row(engine_report.REAL, 1024, 4, 700), row(engine_report.OURS, 8192, 5, 1100)]
    rows += [row(engine_report.GRID, 8192, 1.5, 600)]
    met = {one["what"].split()[0] + str(one["side"]): one for one in engine_report.bars(rows)}
    assert met["start-up:1024"]["met"]
    verdicts = [(one["what"], one["value"], one["met"]) for one in engine_report.bars(rows)]
    assert (f"pixels/s of {engine_report.OURS}", 12.0, True) in verdicts
    assert (f"peak memory of {engine_report.OURS}", 0.22, False) in verdicts
    assert (f"pixels/s of {engine_report.GRID}", 40.0, True) in verdicts
    rows.append(row(engine_report.OURS, 1024, 1, 300))
    verdicts = [(one["what"], one["value"], one["met"]) for one in engine_report.bars(rows)]
    # 44 s beyond its start against 4 s.
    assert (f"pixels/s, start-up apart, of {engine_report.OURS}", 11.0, True) in verdicts


def test_a_slide_that_the_rival_did_not_finish_has_no_ratio():
    rows = [row("tiatoolbox", 8192, 60, 5000, fate="stopped"), row(engine_report.OURS, 8192, 5, 9)]
    assert engine_report.ratios(rows) == []
    report = {"rows": rows, "bars": engine_report.bars(rows)}
    assert "stopped: why" in engine_report.table(report)


def test_agreement_counts_classes_from_nought_on_both_sides(tmp_path):
    random = np.random.default_rng(0)
    theirs = random.integers(0, 5, (5000, 40)).astype(np.uint8)
    ours = theirs + 1
    ours[:500] = 0
    group = zarr.open_group(tmp_path / "ours.zarr", mode="w", zarr_format=2)
    group.create_array("labels/classes/0", data=ours)
    zarr.save_array(tmp_path / "theirs.zarr", theirs)
    assert engine.agreement(tmp_path / "ours.zarr", tmp_path / "theirs.zarr") == 0.9
    zarr.save_array(tmp_path / "small.zarr", theirs[:-1])
    assert engine.agreement(tmp_path / "ours.zarr", tmp_path / "small.zarr") is None
    assert engine.agreement(tmp_path / "ours.zarr", tmp_path / "absent.zarr") is None


@pytest.mark.parametrize("name", sorted(engine.PEERS))
def test_each_peer_has_a_driver_and_a_list_of_pinned_versions(name):
    assert (engine.DRIVERS / engine.PEERS[name]).is_file()
    lines = environments.requirements(name).split()
    assert all(line.count("==") == 1 for line in lines)
    assert any(line.startswith("torch==") for line in lines)


def test_an_environment_is_made_once_and_again_when_its_list_changes(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(environments, "_do", lambda command, name: done.append(command[1:4]))
    (tmp_path / "monai").mkdir()
    first = environments.make_environment("monai", tmp_path)
    again = environments.make_environment("monai", tmp_path)
    assert first == again == str(tmp_path / "monai" / "bin" / "python")
    assert len(done) == 2
    (tmp_path / "monai" / "filled-from.txt").write_text("monai==0.1\n")
    environments.make_environment("monai", tmp_path)
    assert len(done) == 4


def test_a_peer_that_is_not_known_is_refused_in_one_line():
    command = [sys.executable, str(BENCHMARKS / "engine.py"), "--peer", "nobody=/bin/true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: --peer nobody: not one of tiatoolbox, monai, lazyslide\n"


def test_the_plot_is_drawn_from_the_rows(tmp_path):
    rows = [
        row(who, side, side / 900, side / 9)
        for who in ("tiatoolbox", engine_report.OURS)
        for side in (8192, 16384)
    ]
    report = {"rows": rows, "hardware": {"cpu": "a processor", "cores": 2}}
    engine_report.plot(report, tmp_path / "a.png")
    engine_report.plot(report, tmp_path / "b.png")
    assert 5_000 < (tmp_path / "a.png").stat().st_size < 100_000
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
