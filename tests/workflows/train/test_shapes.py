"""Joint training of a real router and a real Grounding DINO on the shapes world, at their smallest."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from superlink.agents.model_folder import load_model
from superlink.workflows.data.shapes import SceneConfig
from superlink.workflows.data.shapes_samples import ClassSamples, ShapesMix, ShapesSamples, TextSamples
from superlink.workflows.train.collective import Alone
from superlink.workflows.train.command import app
from superlink.workflows.train.config import Source, Stage, TrainConfig
from superlink.workflows.train.loop import TrainLoop
from superlink.workflows.train.metrics import read_lines
from superlink.workflows.train.recipes import (
    BACKBONE,
    GROWING,
    RECIPES,
    shapes_smoke,
    shapes_system,
    smoke_detector,
)
from superlink.workflows.train.systems import FreshSystem, SavedSystem
from superlink.workflows.train.trainer import run, run_local
from tests.workflows.train.small_start import TINY
from tests.workflows.train.two_threads import collectives, in_threads

SCENES = SceneConfig(height=64, width=64, max_objects=3)
MIX = ShapesMix(region=0.15, open_share=0.0)


@cache
def small_system() -> FreshSystem:
    detector = replace(
        smoke_detector(), encoder_layers=1, decoder_layers=2, num_queries=10, shortest=64, longest=64
    )
    sizes = {"width": 32, "layers": 2, "heads": 2, "vision_width": 16, "vision_layers": 3}
    system = shapes_system("small", vocabulary=400, router=sizes, detector=detector)
    return replace(system, router=replace(system.router, vision={**system.router.vision, "image_size": 56}))


def small_config(**changes: Any) -> TrainConfig:
    pictures = Source(name="shapes", open=partial(ShapesSamples, 1000, scenes=SCENES, mix=MIX), weight=0.7)
    words = Source(name="words", open=partial(TextSamples, 1000), weight=0.3)
    defaults: dict[str, Any] = {
        "name": "small",
        "system": small_system(),
        "stages": (Stage(name="joint", steps=3, mixture=(pictures, words), lr=1e-3),),
        "global_batch": 6,
        "log_every": 1,
        "eval_every": 0,
        "checkpoint_every": 0,
        "tensorboard": False,
    }
    return TrainConfig(**{**defaults, **changes})


def loop_of(config: TrainConfig, folder: Path, collective: Any = None) -> TrainLoop:
    return TrainLoop(config, folder, collective=collective or Alone(), device=torch.device("cpu"))


def records(folder: Path) -> list[dict[str, float]]:
    return [{**line["losses"], "norm": line["grad_norm"]} for line in read_lines(folder / "metrics.jsonl")]


def test_two_workers_train_router_and_detector_like_one(tmp_path: Path) -> None:
    """All loss terms within 1e-4 relative: denoising and mask noise belong to samples, not to workers."""
    config = small_config(seed=2)  # of ten seeds, one has a near tie that the order of a sum decides
    assert loop_of(config, tmp_path / "one").run()
    loops = [loop_of(replace(config, workers=2), tmp_path / "two", each) for each in collectives()]
    assert in_threads([loop.run for loop in loops]) == [True, True]
    for one, two in zip(records(tmp_path / "one"), records(tmp_path / "two"), strict=True):
        assert one == pytest.approx(two, rel=1e-4, abs=1e-5)
    assert {"language", "grounding_dino/loss_ce", "grounding_dino/loss_mask_dn"} <= set(one)


def test_losses_fall_on_samples_seen_again_and_again(tmp_path: Path) -> None:
    one_batch = Source(name="few", open=partial(ShapesSamples, 4, scenes=SCENES, mix=MIX))
    stage = Stage(name="joint", steps=50, mixture=(one_batch,), lr=3e-3, warmup=3)
    assert loop_of(small_config(stages=(stage,), global_batch=4), tmp_path).run()
    first, last = records(tmp_path)[0], records(tmp_path)[-1]
    assert last["total"] < 0.7 * first["total"]
    assert last["language"] < 0.75 * first["language"]


def test_the_detector_sees_smaller_pictures_in_a_stage_that_says_so(tmp_path: Path) -> None:
    seen: list[int] = []
    config = small_config()
    stages = tuple(replace(config.stages[0], name=str(side), steps=1, image_side=side) for side in (32, None))
    loop = loop_of(replace(config, stages=stages), tmp_path)
    detector = loop.module.decoder("grounding_dino")
    detector.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1].pixels.shape[-1]))
    assert loop.run()
    assert seen == [32, 64]


def class_stage(length: int, **changes: Any) -> Stage:
    """Backbones learn the words for shapes and colours."""
    source = Source(name="classes", open=partial(ClassSamples, length, scenes=SCENES))
    defaults: dict[str, Any] = {"steps": 3, "lr": 3e-3, "lesson": "cells", "trainable": BACKBONE}
    return Stage(name="classes", mixture=(source,), **{**defaults, **changes})


def test_a_backbone_learns_classes_before_there_are_links(tmp_path: Path) -> None:
    config = small_config(stages=(class_stage(4, steps=40, warmup=3),), global_batch=4)
    loop = loop_of(config, tmp_path)
    before = {name: value.clone() for name, value in loop.module.state_dict().items()}
    assert loop.run()
    after = loop.module.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in changed} == {"decoders"}
    assert any("backbone" in name for name in changed)
    assert not any("encoder.layers" in name or "decoder.layers" in name for name in changed)
    lines = records(tmp_path)
    assert set(lines[0]) == {"total", "norm", "grounding_dino.cells"}
    assert lines[-1]["grounding_dino.cells"] < 0.7 * lines[0]["grounding_dino.cells"]


def test_two_workers_teach_a_backbone_like_one(tmp_path: Path) -> None:
    config = small_config(stages=(class_stage(1000),))
    assert loop_of(config, tmp_path / "one").run()
    loops = [loop_of(replace(config, workers=2), tmp_path / "two", each) for each in collectives()]
    assert in_threads([loop.run for loop in loops]) == [True, True]
    for one, two in zip(records(tmp_path / "one"), records(tmp_path / "two"), strict=True):
        assert one == pytest.approx(two, rel=1e-4)


def test_what_was_trained_is_what_is_served_and_what_training_starts_from(tmp_path: Path) -> None:
    loop = loop_of(small_config(), tmp_path / "first")
    assert loop.run()
    served = load_model(tmp_path / "first" / "model")
    torch.testing.assert_close(served.router.state_dict(), loop.module.router.state_dict(), rtol=0, atol=0)
    again = SavedSystem(folder=tmp_path / "first" / "model").build()
    torch.testing.assert_close(again.state_dict(), loop.module.state_dict(), rtol=0, atol=0)
    assert run_local(
        small_config(system=SavedSystem(folder=tmp_path / "first" / "model", name="second")),
        tmp_path / "second",
    ).finished
    assert load_model(tmp_path / "second" / "model").name == "second"


def test_validation_is_repeatable_and_leaves_training_as_it_was(tmp_path: Path) -> None:
    config = small_config(
        validation=(Source(name="v", open=partial(ShapesSamples, 50, split="heldout", scenes=SCENES)),),
        validation_samples=6,
    )
    plain, watched = loop_of(config, tmp_path / "a"), loop_of(replace(config, eval_every=1), tmp_path / "b")
    assert plain.run()
    assert watched.run()
    torch.testing.assert_close(plain.module.state_dict(), watched.module.state_dict(), rtol=0, atol=0)
    lines = [line for line in read_lines(tmp_path / "b" / "metrics.jsonl") if line["kind"] == "validation"]
    assert [line["step"] for line in lines] == [1, 2, 3]
    again = watched.evaluation
    assert again is not None
    watched.module.train()
    assert dict(again(watched.module, 3)) == pytest.approx(lines[-1]["losses"])


def test_recipes_have_the_name_that_they_are_called_by() -> None:
    runs = {name: GROWING[name](TINY) if name in GROWING else build() for name, build in RECIPES.items()}
    assert [config.name for config in runs.values()] == list(RECIPES)


@pytest.mark.slow
def test_the_command_trains_stops_and_goes_on(tmp_path: Path) -> None:
    call = ["shapes-smoke", "--local", "--workers", "1", "--steps", "3", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "model")
    assert (tmp_path / "model" / "system.json").is_file()
    assert any((tmp_path / "tensorboard").iterdir())
    again = CliRunner().invoke(app, call)
    assert again.exit_code == 0, again.output


def test_an_unknown_recipe_is_an_error_that_lists_recipes() -> None:
    result = CliRunner().invoke(app, ["shapes-huge"])
    assert result.exception is not None
    assert "no recipe 'shapes-huge'; there are shapes-tiny, shapes-smoke" in str(result.exception)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray warns of its own defaults
def test_two_ray_workers_train_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    # In samples of some seeds two matches or chosen queries are nearly level; there last digits decide.
    # With this one, losses of all steps agree to 2e-6.
    config = replace(
        shapes_smoke().shortened(5),
        seed=2,
        workers=2,
        autocast=False,
        tensorboard=False,
        log_every=1,
        eval_every=0,
    )
    result = run(config, tmp_path / "ray")
    assert (result.finished, result.steps) == (True, config.steps)
    assert run_local(replace(config, workers=1), tmp_path / "one").finished
    for step, (one, two) in enumerate(zip(records(tmp_path / "one"), records(tmp_path / "ray"), strict=True)):
        norms = one.pop("norm"), two.pop("norm")
        # The words, then the backbone, from the same weights. Later Adam has moved weights whose gradient is
        # zero but for rounding (standardised convolutions have such directions); losses do not feel it.
        if step < 2:
            assert norms[0] == pytest.approx(norms[1], rel=1e-4)
        assert one == pytest.approx(two, rel=1e-4, abs=1e-5)
    assert list(home.iterdir()) == []  # nothing is written outside the run's folder
