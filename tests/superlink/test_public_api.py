"""What `import superlink` promises."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import superlink

HEAVY = ("torch", "ray", "transformers", "supervision", "pycocotools", "scipy", "PIL", "numpy", "rich")


def loaded_after(code: str) -> set[str]:
    """Top-level modules that are loaded after some code, in a fresh interpreter."""
    script = f"{code}\nimport sys\nprint(sorted({{name.split('.')[0] for name in sys.modules}}))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    return set(ast.literal_eval(result.stdout.splitlines()[-1]))


def test_names_are_sorted_and_true() -> None:
    assert superlink.__all__ == sorted(
        superlink.__all__, key=lambda name: (name.lstrip("_").lower(), name)
    ) or (superlink.__all__ == sorted(superlink.__all__))
    assert len(set(superlink.__all__)) == len(superlink.__all__)
    for name in superlink.__all__:
        assert getattr(superlink, name) is not None
        assert name in dir(superlink)


def test_what_a_type_checker_sees_is_what_there_is() -> None:
    tree = ast.parse(Path(superlink.__file__).read_text())
    (block,) = [
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    shown = {
        (alias.name, node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {(name, home) for name, home in superlink._HOME_OF.items()} == shown
    assert {name for name, _ in shown} | {"__version__"} == set(superlink.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        superlink.nothing  # noqa: B018


def test_importing_loads_nothing_heavy() -> None:
    assert not loaded_after("import superlink") & set(HEAVY)


def test_the_help_text_needs_nothing_heavy() -> None:
    code = "from superlink.cli import app\napp(args=['--help'], standalone_mode=False)"
    assert not loaded_after(code) & (set(HEAVY) - {"rich"})


def test_reading_pictures_and_naming_prompts_needs_no_torch() -> None:
    code = "import superlink\nsuperlink.Point(1, 2), superlink.InputError\nimport superlink.agents.pictures"
    assert not loaded_after(code) & {"torch", "ray", "transformers"}
