"""Model folders: what is saved is what is loaded, and what does not fit is said in one line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from superlink.agents.embedded import model_folder
from superlink.agents.model_folder import Model, load_model, save_model
from superlink.agents.system import load
from superlink.decoders.artifacts import equal
from superlink.router.errors import InputError, ModelError
from superlink.router.requests import GenerateOptions
from tests.agents.tiny_model import build_model, decoder_config, reply_ids, saying, scene

TEXT = "A <det>cat</det>[DET] and a <det>dog</det>[SEG]."


@pytest.fixture(scope="module")
def saved(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "pets"
    save_model(folder, model)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "pets"))


def test_a_loaded_system_answers_as_the_saved_one(model: Model, saved: Path) -> None:
    with saying(model, TEXT) as before, load(saved) as after:
        after._options = GenerateOptions(forced=reply_ids(TEXT))
        first, second = before.ask("Find.", image=scene()), after.ask("Find.", image=scene())
    assert after.name == "test"
    assert second.raw == first.raw
    for one, other in zip(first.artifacts, second.artifacts, strict=True):
        assert equal(one, other)


def test_the_folder_has_the_documented_files(saved: Path) -> None:
    assert json.loads((saved / "system.json").read_text()) == {
        "format": 1,
        "name": "test",
        "decoders": ["grounding_dino"],
    }
    for path in ("router/config.json", "tokenizer/tokenizer.json", "decoders/grounding_dino/config.json"):
        assert (saved / path).is_file()
    assert list(saved.glob("decoders/grounding_dino/*.safetensors"))


def test_weights_may_be_saved_in_half_precision(model: Model, tmp_path: Path) -> None:
    save_model(tmp_path / "half", model, dtype="fp16")
    loaded = load_model(tmp_path / "half")
    for (name, before), after in zip(
        model.router.state_dict().items(), loaded.router.state_dict().values(), strict=True
    ):
        assert after.dtype == before.dtype, name
        torch.testing.assert_close(after, before, atol=1e-3, rtol=1e-3)


def change_weights(path: Path, change: str) -> None:
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
    if change == "missing":
        del tensors[name]
    elif change == "extra":
        tensors["surplus.weight"] = torch.zeros(2)
    else:
        tensors[name] = torch.zeros(3, 5)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("part", ["router", "decoders/grounding_dino"])
@pytest.mark.parametrize(
    ("change", "words"), [("missing", "missing"), ("extra", "surplus.weight"), ("shape", r"\(3, 5\)")]
)
def test_weights_that_do_not_fit_are_named(folder: Path, part: str, change: str, words: str) -> None:
    change_weights(folder / part / "model.safetensors", change)
    with pytest.raises(ModelError, match=words) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "system.json",
        "router/config.json",
        "router/model.safetensors",
        "tokenizer/tokenizer.json",
        "decoders/grounding_dino/config.json",
        "decoders/grounding_dino/model.safetensors",
    ],
)
@pytest.mark.parametrize("damage", ["absent", "empty", "cut"])
def test_a_missing_or_damaged_file_is_named(folder: Path, path: str, damage: str) -> None:
    file = folder / path
    data = file.read_bytes()
    file.unlink()
    if damage != "absent":
        file.write_bytes(b"" if damage == "empty" else data[: len(data) // 2])
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert Path(path).name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("system.json", {"format": 99}),
        ("system.json", {"decoders": "grounding_dino"}),
        ("system.json", {"decoders": ["../../elsewhere"]}),
        ("decoders/grounding_dino/config.json", {"type": "Sam"}),
        ("decoders/grounding_dino/config.json", {"config": {"no_such_field": 1}}),
        ("decoders/grounding_dino/config.json", {"config": {"routes": [{}]}}),
        ("decoders/grounding_dino/config.json", {"config": 3}),
        ("router/config.json", {"tokens": []}),
    ],
)
def test_a_configuration_that_makes_no_sense_is_one_line(
    folder: Path, path: str, change: dict[str, object]
) -> None:
    file = folder / path
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"unknown model 'huge'; the embedded ones: .*folder"):
        load("huge")
    with pytest.raises(ModelError, match=r"no system\.json"):
        load(tmp_path)
    (tmp_path / "system.json").write_text("{}")
    assert model_folder(tmp_path) == tmp_path


def cached(hub: Path, name: str, model: Path) -> Path:
    """A model folder where `huggingface_hub` keeps what it has downloaded."""
    kept = hub / f"models--{name.replace('/', '--')}"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40)
    return Path(shutil.copytree(model, kept / "snapshots" / ("0" * 40)))


def test_a_model_of_the_hub_is_taken_from_its_cache_while_offline(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    where = cached(hub, "somebody/shapes", folder)
    assert model_folder("somebody/shapes") == where
    assert load_model(where).name == load_model(folder).name
    with pytest.raises(ModelError, match=r"'somebody/else' is no folder here and .*Hub") as caught:
        model_folder("somebody/else")
    assert "\n" not in str(caught.value)


def test_a_mistyped_path_asks_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr("superlink.agents.embedded._downloaded", pytest.fail)
    for name in ("runs/mime", "hugr", "../hugr", "a/b/c", str(tmp_path / "x")):
        with pytest.raises(ModelError, match="unknown model"):
            model_folder(name)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(InputError, match=r"'steam'.*'local'"):
        load("tiny", engine="steam")


def test_parts_that_do_not_belong_together_are_refused(model: Model) -> None:
    routes = decoder_config().routes
    other = replace(
        decoder_config(), routes=(replace(routes[0], token=replace(routes[0].token, num_links=7)),)
    )
    decoder = other.build(model.router.config.width)
    with pytest.raises(ModelError, match="num_links=7"):
        replace(model, decoders=(decoder,))
    with pytest.raises(ModelError, match="name of its own"):
        replace(model, decoders=model.decoders * 2)


def test_large_weights_are_split_into_files_below_fifteen_megabytes(tmp_path: Path) -> None:
    model = build_model()
    for number in range(3):
        model.router.queries[f"surplus{number}"] = torch.nn.Embedding(700, 2200)  # 6.2 MB
    save_model(tmp_path, model)
    sizes = [path.stat().st_size for path in (tmp_path / "router").glob("model-*.safetensors")]
    assert len(sizes) == 2
    assert max(sizes) < 15_000_000
