"""What is installed is complete, and what is in the tree may be there."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tree_rules", ROOT / "scripts" / "tree_rules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The smallest tree that breaks no rule."""
    (tmp_path / "typings/superlink").mkdir(parents=True)
    packages, folders = [], []
    for name in ("superlink", "router", "decoders", "agents", "workflows"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        dotted = name if name == "superlink" else f"superlink.{name}"
        packages.append(f'    "{dotted}",\n')
        folders.append(f'"{dotted}" = "{name}"\n')
        link = "__init__.py" if name == "superlink" else name
        target = "../../superlink/__init__.py" if name == "superlink" else f"../../{name}"
        (tmp_path / "typings/superlink" / link).symlink_to(target)
    data = '\n[tool.setuptools.package-data]\nsuperlink = ["weights/**/*"]\n\n'
    text = f"packages = [\n{''.join(packages)}]\n\n[tool.setuptools.package-dir]\n{''.join(folders)}{data}"
    (tmp_path / "pyproject.toml").write_text(text)
    return tmp_path


def test_this_tree_breaks_no_rule(rules: ModuleType) -> None:
    assert rules.broken_rules(ROOT) == []


def test_torchvision_is_absent(rules: ModuleType) -> None:
    assert not rules.torchvision_present()


def test_a_small_clean_tree_breaks_no_rule(rules: ModuleType, tree: Path) -> None:
    assert rules.broken_rules(tree) == []


def test_every_kind_of_broken_rule_is_found_and_named(rules: ModuleType, tree: Path) -> None:
    big = tree / "superlink/weights"
    big.mkdir()
    for part in range(4):
        with (big / f"part-{part}.safetensors").open("wb") as file:
            file.truncate(16 * 10**6)
    (tree / "decoders/new").mkdir()
    (tree / "decoders/new/__init__.py").touch()
    (tree / "router/words.txt").touch()
    (tree / "superlink/cli.py").touch()
    (tree / "agents/long.py").write_text("x = 1\n" * 501)
    (tree / "notes.md").write_text("see " + "/home" + "/somebody/notes")
    broken = rules.broken_rules(tree)
    for said in (
        "superlink/weights/ holds 64.0 MB, at most 60 MB",
        "superlink/weights/part-0.safetensors has 16.0 MB",
        "'superlink.decoders.new' is missing in packages",
        "router/words.txt is in no wheel",
        "ln -s ../../superlink/cli.py typings/superlink/cli.py",
        "agents/long.py has 501 lines",
        "notes.md:1: a path of one machine",
    ):
        assert any(said in line for line in broken), (said, broken)
    assert len(broken) == 10


def test_what_is_installed_is_this_version_with_its_licence() -> None:
    found = importlib.metadata.metadata("superlink")
    text = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{found["Version"]}"' in text
    assert found["License-Expression"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]


def test_every_requirement_has_an_exact_version_that_was_tested() -> None:
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in pinned}
    for requirement in importlib.metadata.requires("superlink") or []:
        match = re.match(r"[\w.-]+", requirement)
        assert match is not None
        assert re.sub(r"[-_.]+", "-", match.group()).lower() in names


@pytest.mark.slow
def test_a_wheel_holds_every_module_and_data_file(rules: ModuleType, tmp_path: Path) -> None:
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed here, and a test fetches nothing")
    source = tmp_path / "source"
    for name in (*rules.PACKAGES, "pyproject.toml", "README.md", "LICENSE"):
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "-w",
        str(tmp_path),
        ".",
    ]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("superlink-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    for top in rules.PACKAGES:
        for path in (source / top).rglob("*"):
            if path.is_file():
                relative = path.relative_to(source).as_posix()
                assert (relative if top == "superlink" else f"superlink/{relative}") in held
