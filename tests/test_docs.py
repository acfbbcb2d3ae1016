"""What the guides to sessions and exports show runs as it stands there, page by page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import superlink as sl
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
