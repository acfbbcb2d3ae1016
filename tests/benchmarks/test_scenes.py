"""`benchmarks/scenes.py` at a small size."""

from __future__ import annotations

from benchmarks import scenes
from superlink.workflows.data.shapes import Scene, SceneConfig
from tests.benchmarks.conftest import Printed


def test_every_scene_is_drawn_and_its_objects_are_counted(printed: Printed) -> None:
    scenes.main(["--count", "3", "--side", "64"])
    found = printed()
    config = SceneConfig(height=64, width=64)
    assert found["objects"] == sum(len(Scene.generate(seed, config).objects) for seed in range(3))
    assert (found["scenes"], found["side"]) == (3, 64)
    assert found["per_second_of_a_core"] > 0
