"""What the guides to sessions and exports show runs as it stands there, and what they list is there."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import superlink as sl
from superlink.agents.session_store import StoredSession
from superlink.workflows.data.checking import Report
from superlink.workflows.eval.report import EvalReport, Metric
from superlink.workflows.graph.folders import Summary
from tests.agents.tiny_family import build_family, scripted
from tests.agents.tiny_model import scene

DOCS = Path(__file__).resolve().parents[1] / "docs"
FIND = "Here: <det>star</det>[DET]."
CUT = "This: <det>star</det>[SEG]."
# What the router writes to every question of a page, in order.
REPLIES = {
    "sessions.md": [
        FIND, CUT, "Done: <det>make it green</det>[EDIT].", FIND, FIND,
        FIND, FIND, FIND, CUT,
        "These: <det>region1</det>[SEG], <det>region2</det>[SEG].", CUT, "Here: <det>blue star</det>[GEN].",
    ],
    "exports.md": [FIND] * 5,
}  # fmt: skip


@pytest.mark.parametrize("page", REPLIES)
def test_every_block_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("scene", "a", "b", "c")):
        Image.fromarray(scene(100, 140, seed=seed)).save(f"{name}.png")
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    system, engine = scripted(build_family(), *REPLIES[page])
    mask = np.zeros((100, 140), bool)
    mask[10:50, 20:60] = True
    names = {"sl": sl, "system": system, "mask_a": mask, "mask_b": mask}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    assert blocks
    assert engine.replies == []
    written = {"sessions.md": "page/talk.md", "exports.md": "dataset/coco.json"}
    assert (tmp_path / written[page]).is_file()


def fields(page: str, heading: str) -> set[str]:
    """What stands in code style in the tables and text below a heading."""
    found = page.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0]
    return set(re.findall(r"`([^`]+)`", found))


def test_the_page_on_json_names_every_field_of_a_turn() -> None:
    page = (DOCS / "json.md").read_text()
    reply = (
        "Here: <det>star</det>[GRD], <det>person</det>[DET] with <det>nose</det>[POSE], <det>star</det>[SEG],"
        " <det>blue star</det>[GEN], <det>make it green</det>[EDIT]."
    )
    system, _ = scripted(build_family(), reply)
    turn = system.ask("All of it.", image=scene(100, 140, seed=0))
    data = turn.to_json()
    kinds = {one["type"] for one in data["artifacts"]}
    assert {"boxes", "masks", "keypoints", "picture"} <= kinds
    used = set(data).union(kinds, *data["artifacts"])
    assert used <= fields(page, "`superlink ask`"), sorted(used - fields(page, "`superlink ask`"))


@pytest.mark.parametrize(
    "kind", [Summary, Report, StoredSession, EvalReport, Metric], ids=lambda kind: kind.__name__
)
def test_the_page_on_json_names_every_field_of_what_other_commands_print(kind: type) -> None:
    page = (DOCS / "json.md").read_text()
    own = {field.name for field in dataclasses.fields(kind)} - {"data", "left_out"}
    assert own <= fields(page, "Other commands")
