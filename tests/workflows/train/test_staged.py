"""The published stages: their numbers, and what learns in each."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from superlink.decoders.diffusion.config import edit_routes, generation_routes
from superlink.decoders.grounding_dino.config import perception_routes
from superlink.decoders.unipose import UniPoseConfig
from superlink.decoders.unipose.config import pose_routes
from superlink.router.errors import DataError, InputError
from superlink.workflows.data.formats import recognise
from superlink.workflows.train.collective import Alone
from superlink.workflows.train.config import Lora, Source, TrainConfig
from superlink.workflows.train.finetune import Changes, checked, config_of, sources_of
from superlink.workflows.train.finetune_command import SUMMARIES
from superlink.workflows.train.loop import TrainLoop
from superlink.workflows.train.lora import add_adapters
from superlink.workflows.train.optimizer import build_optimizer, match, set_trainable, split_groups
from superlink.workflows.train.staged import SERIES, STAGED, Start
from superlink.workflows.train.systems import FreshSystem
from tests.decoders.diffusion.painters import small as small_painter
from tests.decoders.diffusion.painters import small_editor
from tests.decoders.grounding_dino.detectors import small as small_detector
from tests.decoders.unipose.poses import small as small_unipose
from tests.workflows.data.test_coco_keypoints import poses
from tests.workflows.data.test_coco_keypoints import write as write_poses
from tests.workflows.train.tiny_system import ToySamples, router_config, tokenizer

DATA = (Source(name="toy", open=ToySamples),)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """A model folder with every kind of decoder."""
    decoders = (
        small_detector(routes=perception_routes(2)),
        small_unipose(routes=pose_routes(2)),
        small_painter(routes=generation_routes(2)),
        small_editor(routes=edit_routes(2)),
    )
    tokens = {
        token.text: token
        for decoder in decoders
        for route in decoder.routes
        for token in (*route.takes, route.token)
    }
    base = router_config()
    router = replace(
        base,
        tokens=tuple(tokens.values()),
        region_encoder=True,
        tiling="pad",
        llm={**base.llm, "max_position_embeddings": 1024},
    )
    system = FreshSystem(name="all", router=router, decoders=decoders, tokenizer=tokenizer())
    folder = tmp_path_factory.mktemp("model") / "all"
    torch.manual_seed(0)
    system.export(system.build(), folder)
    return Start.of(folder)


@pytest.mark.parametrize(
    ("name", "lr", "batch", "epochs", "lora"),
    [
        ("align", 1e-3, 2048, 1, None),
        ("tune", 2.5e-5, 1024, 1, None),
        ("multi-capacity", 1e-4, 256, 1, 32),
        ("decoder-only", 1e-4, 256, 12, None),
    ],
)
def test_published_numbers(
    start: Start, name: str, lr: float, batch: int, epochs: int, lora: int | None
) -> None:
    """Table A12 of the paper."""
    config = STAGED[name](start, DATA, samples=batch * 100, scale="visionllm-v2-7b")
    (stage,) = config.stages
    assert (config.name, stage.lr, config.global_batch, stage.steps) == (name, lr, batch, epochs * 100)
    assert (stage.warmup, stage.floor) == (3 * epochs, 0.0)
    assert (config.weight_decay, config.autocast, config.average) == (0.0, True, None)
    assert (None if config.lora is None else config.lora.r) == lora
    if lora:
        targets = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj")
        assert config.lora == Lora(r=32, alpha=64, dropout=0.05, targets=targets)
        assert "gate_proj" not in targets


def rates(config: TrainConfig, start: Start) -> dict[str, float]:
    """Learning rate of every parameter that learns."""
    module = start.system.build()
    if config.lora is not None:
        add_adapters(module, config.lora)
    learned = set(set_trainable(module, config.stages[0].trainable))
    build_optimizer(module, config)
    groups = split_groups(module, config.groups)
    found = {name: group.lr * config.stages[0].lr for group, names in groups for name in names}
    return {name: found[name] for name in found if name in learned}


@pytest.mark.parametrize(
    ("name", "learns", "stays"),
    [
        ("align", ("router.bridge.*", "router.region_encoder.*"), ("router.llm.*", "decoders.*")),
        ("tune", ("router.bridge.*", "router.llm.*"), ("router.queries.*", "decoders.*")),
        (
            "multi-capacity",
            (
                "*.lora_A.*",
                "*embed_tokens*",
                "router.region_encoder.*",
                "router.queries.*",
                "decoders.unipose.*",
            ),
            ("router.bridge.*", "*.base_layer.*", "router.vision_tower.*"),
        ),
        (
            "decoder-only",
            ("router.queries.*", "decoders.grounding_dino.*"),
            ("router.llm.*", "router.bridge.*"),
        ),
        ("finetune", ("router.llm.*", "router.bridge.*", "decoders.unipose.*"), ("*.vae.*",)),
    ],
)
@pytest.mark.parametrize("scale", ["tiny", "visionllm-v2-7b"])
def test_what_learns_in_a_stage(
    start: Start, name: str, learns: tuple[str, ...], stays: tuple[str, ...], scale: str
) -> None:
    config = STAGED[name](start, DATA, samples=50, scale=scale)
    names = rates(config, start)
    for glob in learns:
        assert match([glob], list(names))
    for glob in (*stays, "*.vae.*", "decoders.*.text_encoder.*", "decoders.stable_diffusion.unet.*"):
        with pytest.raises(InputError, match="no parameter matches"):
            match([glob], list(names))
    painted = [one for one in names if one.startswith("decoders.instruct_pix2pix.unet.")]
    assert bool(painted) is (name not in ("align", "tune"))


def test_the_joint_stage_has_a_tenth_of_the_rate_for_the_router_and_for_backbones(start: Start) -> None:
    config = STAGED["multi-capacity"](start, DATA, samples=50, scale="visionllm-v2-7b")
    found = rates(config, start)
    for name, rate in found.items():
        slow = ("backbone", "sampling_offsets", "reference_points")
        tenth = name.startswith(("router.llm", "router.region_encoder")) or (
            name.startswith(("decoders.grounding_dino", "decoders.unipose"))
            and any(part in name for part in slow)
        )
        assert rate == pytest.approx(1e-5 if tenth else 1e-4), name


def test_small_models_get_small_numbers_and_an_average_of_what_paints(start: Start) -> None:
    assert start.scale == "tiny"
    config = STAGED["decoder-only"](start, DATA, samples=40)
    assert config.global_batch <= 16
    assert config.average is not None
    assert config.average.globs == ("decoders.instruct_pix2pix.unet.*",)
    assert STAGED["tune"](start, DATA, samples=40).average is None


def test_pictures_are_one_tile_while_a_bridge_is_aligned_and_as_before_after_it(
    start: Start, tmp_path: Path
) -> None:
    assert start.router.tiling != "square"
    config = STAGED["align"](start, DATA, samples=4)
    module = config.system.build()
    assert module.router.config.tiling == "square"
    config.system.export(module, tmp_path / "model")
    assert Start.of(tmp_path / "model").router == start.router


def test_changes_replace_numbers_of_the_recipe(start: Start) -> None:
    def made(recipe: str = "finetune", **changes: object) -> TrainConfig:
        return config_of(recipe, start, DATA, samples=100, changes=Changes(**changes))  # type: ignore[arg-type]

    assert made().steps == 32  # five times 100 samples in steps of 16
    assert made(steps=7).steps == 7
    assert made(epochs=2, batch=10).steps == 20
    assert made(batch=5, workers=2).global_batch == 6
    changed = made(lr=1e-2, trainable=("router.queries.*",), average=0.9, seed=4)
    assert (changed.stages[0].lr, changed.stages[0].trainable) == (1e-2, ("router.queries.*",))
    assert changed.average is not None
    assert changed.average.globs == ("router.queries.*",)
    adapted = made(lora=4)
    assert adapted.lora == Lora(r=4, alpha=8)
    assert "router.llm.*" not in adapted.stages[0].trainable
    with pytest.raises(InputError, match="no recipe 'bake'; there are finetune, align"):
        made("bake")


@pytest.mark.parametrize(
    ("recipe", "samples", "changes", "steps", "warmup"),
    [
        ("finetune", 3, {"steps": 300}, 300, 9),  # the recipe alone is one step
        ("finetune", 3, {"batch": 1}, 15, 1),  # five epochs, not those of a rounded step
        ("finetune", 100, {}, 32, 1),
        ("finetune", 10, {"epochs": 0.7, "batch": 1}, 7, 1),
        ("align", 2000, {"batch": 16}, 375, 12),
    ],
)
def test_warm_up_and_epochs_are_those_of_the_final_run(
    start: Start, recipe: str, samples: int, changes: dict[str, Any], steps: int, warmup: int
) -> None:
    config = config_of(recipe, start, DATA, samples=samples, changes=Changes(**changes))
    assert (config.stages[0].steps, config.stages[0].warmup) == (steps, warmup)


def test_a_published_run_in_small_batches_warms_up_for_a_moment(start: Start) -> None:
    wide = replace(start, router=replace(start.router, llm={**start.router.llm, "hidden_size": 1024}))
    assert wide.scale == "visionllm-v2-7b"
    config = config_of("align", wide, DATA, samples=2000, changes=Changes(batch=16))
    assert (config.stages[0].steps, config.stages[0].warmup) == (125, 4)


def test_a_running_average_is_also_one_of_the_adapters(start: Start) -> None:
    for recipe, changes in (
        ("finetune", Changes(lora=4, average=0.9)),
        ("multi-capacity", Changes(average=0.9)),
    ):
        config = config_of(recipe, start, DATA, samples=100, changes=changes)
        assert config.average is not None
        assert config.average.globs == (*config.stages[0].trainable, "*.lora_*")


def test_every_recipe_has_a_summary_for_the_command_line() -> None:
    assert list(SUMMARIES) == [*STAGED, *SERIES]


def test_a_staged_run_trains(start: Start, tmp_path: Path) -> None:
    data = (Source(name="talk", open=partial(ToySamples, ("chat",))),)
    changes = Changes(steps=2, batch=2)
    config = replace(config_of("multi-capacity", start, data, samples=10, changes=changes), tensorboard=False)
    loop = TrainLoop(config, tmp_path, collective=Alone(), device=torch.device("cpu"))
    assert loop.run()
    assert Start.of(tmp_path / "model").router == start.router


def test_keypoints_that_a_model_does_not_know_are_bad_records(start: Start, tmp_path: Path) -> None:
    path = write_poses(tmp_path, poses())
    (fine,) = checked(start, [recognise(path)])
    assert (fine.tasks, fine.bad) == ({"keypoints": 1}, ())
    assert fine.data.most_keypoints == 20  # as the model's decoder has it
    (unipose,) = (one for one in start.decoders if isinstance(one, UniPoseConfig))
    narrow = replace(start, decoders=(replace(unipose, keypoint_names=("elbow",)),))
    (report,) = checked(narrow, [recognise(path)])
    assert not report.tasks
    (reason,) = report.bad
    assert reason.startswith(f"{tmp_path.name}/poses.json, image 5: ")
    assert "it knows elbow" in reason
    with pytest.raises(DataError, match=r"1 records cannot be used; the first: .*/poses\.json, image 5"):
        sources_of(narrow, [report])
    with pytest.raises(DataError, match=r"poses\.json: no sample can be used; the first: .*/poses"):
        sources_of(narrow, [report], skip_bad=True)
