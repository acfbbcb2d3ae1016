"""What the README shows runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("block", "printed", "written"),
    [
        pytest.param(BLOCKS[0], "red circle", ("out.png",), id="ask"),
        pytest.param(BLOCKS[1], "{'stars': [", (), id="workflow"),
    ],
)
def test_a_python_block_runs(
    block: str,
    printed: str,
    written: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert printed in capsys.readouterr().out
    for name in written:
        assert (tmp_path / name).stat().st_size > 1000


def test_every_python_block_is_run_above_and_every_linked_file_exists() -> None:
    assert len(BLOCKS) == 2
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "ARCHITECTURE.md",
        *(ROOT / "docs").glob("*.md"),
    ]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links {target}"


def test_every_script_of_the_readme_is_there_and_executable() -> None:
    scripts = set(re.findall(r"^(scripts/\w+)", README, re.MULTILINE))
    assert {"scripts/demo", "scripts/test"} <= scripts
    for script in scripts:
        assert (ROOT / script).stat().st_mode & 0o111


def test_every_file_that_the_architecture_names_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for name in set(
        re.findall(r"`((?:router|decoders|agents|workflows|superlink|tests|scripts)/[\w/.]*)`", text)
    ):
        assert (ROOT / name).exists(), f"ARCHITECTURE.md names {name}"
