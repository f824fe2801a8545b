"""What pyproject.toml promises, held against the tree; nothing is built."""

from __future__ import annotations

import ast
import itertools
import re
import sys
import tomllib
from pathlib import Path

import yaml

from wsi_sampath.version import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
DISTRIBUTION = {
    "PIL": "pillow",
    "google": "protobuf",
    "openslide": "openslide-python",
    "pydantic_core": "pydantic",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}
"""Where a package comes from, if not from a project of the same name."""
NAMED = re.compile(r"(?:wsi-sampath|'\.)\[([a-z,]+)\]'")
REQUIREMENT = re.compile(r"([A-Za-z0-9-]+)(?:\[\w+\])?>=([\w.]+)")


def imported_packages(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_citation_has_the_version_of_the_package():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(cited["version"]) == __version__
    assert len(cited["references"]) == 3


def test_every_extra_that_a_page_names_exists():
    files = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    named = {
        extra
        for path in files
        for names in NAMED.findall(path.read_text(encoding="utf-8"))
        for extra in names.split(",")
    }
    assert {"train", "viewer"} <= named
    assert named <= set(EXTRAS)


def test_the_wheel_takes_models_templates_and_page():
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["wsi_sampath"]
    left_out = [ROOT / folder for folder in wheel["exclude"]]
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    for name in (
        "py.typed",
        "models/bundled/gland-mini.safetensors",
        "models/bundled/nuclei-mini.safetensors",
        "outputs/report/report.html.j2",
        "batch/record/batch.html.j2",
        "viewer/static/viewer.js",
        "data/groupings/bcss.yaml",
    ):
        path = ROOT / "wsi_sampath" / name
        assert path.is_file()
        assert not any(path.is_relative_to(folder) for folder in left_out), name
        assert not any(path.match(pattern) for pattern in ignored), name
        assert not {parent.name for parent in path.parents} & set(ignored), name


def test_the_oldest_set_is_the_lower_bounds():
    bounds = dict(REQUIREMENT.match(line).groups() for line in PROJECT["project"]["dependencies"])
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    assert set(pinned) == set(bounds)
    for name, version in pinned.items():
        assert f"{version}.".startswith(f"{bounds[name]}."), name


def test_every_package_that_is_imported_is_declared():
    wanted = [*PROJECT["project"]["dependencies"], *itertools.chain(*EXTRAS.values())]
    declared = {re.split(r"[\[<>=~! ]", line)[0].lower() for line in wanted}
    own = sys.stdlib_module_names | {"wsi_sampath"}
    missing = {
        f"{path.relative_to(ROOT)} imports {package}"
        for path in (ROOT / "wsi_sampath").rglob("*.py")
        for package in imported_packages(path) - own
        if DISTRIBUTION.get(package, package.replace("_", "-")).lower() not in declared
    }
    assert missing == set()


def test_containers_install_extras_that_exist_and_run_our_commands():
    for name in ("Dockerfile", "apptainer.def"):
        text = (ROOT / name).read_text(encoding="utf-8")
        (extras,) = re.findall(r"'\.\[([a-z,]+)\]'", text)
        assert set(extras.split(",")) <= set(EXTRAS)
        assert set(re.findall(r"\bwsi-(?!sampath)[a-z]+", text)) <= set(
            PROJECT["project"]["scripts"]
        )
