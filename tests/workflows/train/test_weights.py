"""A run can begin with weights of another one, or of a part of it; nothing is taken that does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from superlink.router.checkpoint import save_weights
from superlink.router.errors import InputError, ModelError
from superlink.router.tokenizer import RouterTokenizer
from superlink.workflows.train.checkpoint import WEIGHTS, checkpoints
from superlink.workflows.train.collective import Alone
from superlink.workflows.train.command import app
from superlink.workflows.train.config import TrainConfig
from superlink.workflows.train.loop import TrainLoop
from superlink.workflows.train.trainer import run_local
from tests.workflows.train.tiny_system import toy_config


def begun(config: TrainConfig, folder: Path, weights: Path | None = None) -> TrainLoop:
    config = replace(config, weights=weights)
    return TrainLoop(config, folder, collective=Alone(), device=torch.device("cpu"))


def state(loop: TrainLoop) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in loop.module.state_dict().items()}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> TrainLoop:
    """A finished run of another seed."""
    loop = begun(toy_config(seed=5), tmp_path_factory.mktemp("other"))
    assert loop.run()
    return loop


def test_a_run_begins_with_the_weights_of_a_checkpoint_of_another_one(
    tmp_path: Path, other: TrainLoop
) -> None:
    ((_, newest),) = checkpoints(other.folder / "checkpoints")[-1:]
    loop = begun(toy_config(), tmp_path, newest)
    assert loop.step == 0
    torch.testing.assert_close(state(loop), state(other), rtol=0, atol=0)


def test_the_weights_of_a_part_leave_the_others_as_they_are(tmp_path: Path, other: TrainLoop) -> None:
    part = {name: tensor for name, tensor in state(other).items() if name.startswith("decoders.")}
    save_weights(tmp_path / "part", WEIGHTS, part, dtype="fp16")
    fresh, loop = begun(toy_config(), tmp_path / "a"), begun(toy_config(), tmp_path / "b", tmp_path / "part")
    wanted = {**state(fresh), **{name: tensor.half().float() for name, tensor in part.items()}}
    assert 0 < len(part) < len(wanted)
    torch.testing.assert_close(state(loop), wanted, rtol=0, atol=0)


def test_a_resumed_run_goes_on_with_its_own_weights(tmp_path: Path, other: TrainLoop) -> None:
    ((_, newest),) = checkpoints(other.folder / "checkpoints")[-1:]
    first = begun(toy_config(), tmp_path)
    assert first.run()
    torch.testing.assert_close(state(begun(toy_config(), tmp_path, newest)), state(first), rtol=0, atol=0)


def test_starting_anew_does_not_drop_the_weights_that_it_begins_with(tmp_path: Path) -> None:
    assert run_local(toy_config(), tmp_path).finished
    ((_, newest),) = checkpoints(tmp_path / "checkpoints")[-1:]
    with pytest.raises(InputError, match=r"the weights to begin with \('.*step-00000006'\) would be dropped"):
        run_local(replace(toy_config(), weights=newest), tmp_path, resume=False)
    assert newest.is_dir()
    assert run_local(replace(toy_config(), weights=newest), tmp_path / "new", resume=False).finished


def test_links_that_are_held_to_other_weights_make_another_run(tmp_path: Path, other: TrainLoop) -> None:
    ((_, newest),) = checkpoints(other.folder / "checkpoints")[-1:]
    config = toy_config(loss_weights={"kept_links": 1.0})
    assert begun(config, tmp_path).run()
    with pytest.raises(ModelError, match=r"held\.weights = None, this one has '.*step-00000006'"):
        begun(config, tmp_path, newest)


def test_weights_that_do_not_fit_are_named_and_nothing_is_taken(tmp_path: Path, other: TrainLoop) -> None:
    name = next(iter(state(other)))
    save_weights(tmp_path / "strange", WEIGHTS, {"decoders.baker.oven": torch.ones(2)})
    with pytest.raises(ModelError, match=r"decoders\.baker\.oven \(2,\), but nothing here has that name"):
        begun(toy_config(), tmp_path / "run", tmp_path / "strange")
    save_weights(tmp_path / "narrow", WEIGHTS, {name: torch.ones(3, 1, 2)})
    with pytest.raises(ModelError, match=r"\(3, 1, 2\), but here it is"):
        begun(toy_config(), tmp_path / "run", tmp_path / "narrow")
    with pytest.raises(ModelError, match=r"no weights .*; give the folder of a checkpoint"):
        begun(toy_config(), tmp_path / "run", tmp_path / "nowhere")


def test_weights_for_other_words_are_refused(tmp_path: Path, other: TrainLoop) -> None:
    save_weights(tmp_path, WEIGHTS, state(other))
    RouterTokenizer.train(["some other words altogether"], 300).save(tmp_path)
    with pytest.raises(ModelError, match="another vocabulary"):
        begun(toy_config(), tmp_path / "run", tmp_path)


def test_some_stages_of_a_recipe_can_be_run_alone() -> None:
    config = toy_config()
    second = replace(config.stages[0], name="second")
    both = replace(config, stages=(config.stages[0], second))
    assert both.only(["second"]).stages == (second,)
    with pytest.raises(InputError, match="has no stage 'third'; there are "):
        both.only(["third"])
    result = CliRunner().invoke(app, ["shapes-smoke", "--stage", "dreams"])
    assert "run 'shapes-smoke' has no stage 'dreams'; there are words, classes-128" in str(result.exception)
