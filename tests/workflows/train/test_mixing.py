"""`superlink train mix`: the weighted mean of models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from superlink.agents.model_folder import load_model, save_model
from superlink.router.errors import InputError, ModelError, UsageError
from superlink.workflows.train.command import app
from superlink.workflows.train.mixing import mixed
from tests.workflows.train.test_shapes import small_system


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two untrained models of one build."""
    folder = tmp_path_factory.mktemp("models")
    system = small_system()
    for seed in (0, 1):
        torch.manual_seed(seed)
        system.export(system.build(), folder / str(seed))
    return folder / "0", folder / "1"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    model = load_model(folder)
    parts = {"router": model.router, **{one.config.name: one for one in model.decoders}}
    return {
        f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()
    }


def test_every_weight_is_the_weighted_mean(models: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = models
    out = tmp_path / "mean"
    result = CliRunner().invoke(app, ["mix", str(out), f"{first}=3", f"{second}=1"])
    assert (result.exit_code, result.stdout.strip()) == (0, str(out))
    one, other, mean = weights(first), weights(second), weights(out)
    moved = [key for key in one if not torch.equal(one[key], other[key])]
    assert any(key.startswith("router.") for key in moved)
    assert any(key.startswith("grounding_dino.") for key in moved)
    for key, value in mean.items():
        torch.testing.assert_close(value.double(), one[key].double() * 0.75 + other[key].double() * 0.25)


def test_what_is_not_to_be_mixed_is_the_first_ones(models: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = models
    out = tmp_path / "mean"
    arguments = ["mix", str(out), f"{first}=0.5", f"{second}=0.5", "--only", "router.queries.*"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    one, mean = weights(first), weights(out)
    differing = {key for key in one if not torch.equal(one[key], mean[key])}
    assert differing
    assert all(key.startswith("router.queries.") for key in differing)


def test_shares_paths_and_folders_that_make_no_mean_are_refused(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    first, second = models

    def refused(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["mix", str(tmp_path / "mean"), *arguments])
        assert isinstance(result.exception, InputError | ModelError)
        assert not (tmp_path / "mean").exists()
        return str(result.exception)

    assert "two models" in refused(f"{first}=1")
    assert "above 0" in refused(f"{first}=-1", f"{second}=1")
    assert "unknown model" in refused(f"{first}=1", f"{tmp_path / 'gone'}=1")
    assert "no parameter fits ruoter.*" in refused(f"{first}=1", f"{second}=1", "--only", "ruoter.*")
    assert "not built like" in refused(f"{first}=1", "tiny=1")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    for place in (tmp_path / "full", tmp_path / "full" / "notes.txt"):
        result = CliRunner().invoke(app, ["mix", str(place), f"{first}=1", f"{second}=1"])
        assert "is there already" in str(result.exception)


def test_a_mean_of_equals_is_the_same_model(models: tuple[Path, Path]) -> None:
    model = mixed({models[0]: 1.0, models[0].parent / "1": 1e-30})
    for key, value in load_model(models[0]).router.state_dict().items():
        torch.testing.assert_close(model.router.state_dict()[key], value)


@pytest.mark.parametrize("share", ["much", "0.5=", ""])
def test_a_share_that_is_no_number_is_bad_usage(
    models: tuple[Path, Path], tmp_path: Path, share: str
) -> None:
    result = CliRunner().invoke(
        app, ["mix", str(tmp_path / "mean"), f"{models[0]}={share}", f"{models[1]}=1"]
    )
    assert isinstance(result.exception, UsageError)
    assert "write MODEL=0.5" in str(result.exception)
    assert not (tmp_path / "mean").exists()


def test_a_damaged_model_makes_no_mean(models: tuple[Path, Path], tmp_path: Path) -> None:
    damaged = load_model(models[1])
    with torch.no_grad():
        next(damaged.router.parameters())[0] = float("nan")
    save_model(tmp_path / "damaged", damaged)
    with pytest.raises(InputError, match="one of the models is damaged"):
        mixed({models[0]: 1.0, tmp_path / "damaged": 1.0})
