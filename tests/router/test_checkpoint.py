"""Routers and weights on disk."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from superlink.router.checkpoint import load_router, load_weights, save_router, save_weights
from superlink.router.config import RouterConfig
from superlink.router.errors import ModelError
from superlink.router.model import Router
from tests.router.batches import batch_of, example_rows


def test_a_router_comes_back_as_it_was(tmp_path: Path, router: Router, config: RouterConfig) -> None:
    save_router(tmp_path, router)
    loaded = load_router(tmp_path)
    assert loaded.config == config
    assert not loaded.training
    batch = batch_of(config, example_rows(config))
    with torch.no_grad():
        torch.testing.assert_close(loaded(batch).logits, router(batch).logits, rtol=0, atol=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_half_precision_halves_the_file_and_comes_back_as_float32(tmp_path: Path, router: Router) -> None:
    save_router(tmp_path / "full", router)
    save_router(tmp_path / "half", router, dtype="bf16")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    loaded = load_router(tmp_path / "half")
    for name, tensor in router.state_dict().items():
        assert loaded.state_dict()[name].dtype == torch.float32
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=1e-2, rtol=1e-2)


def test_tied_embeddings_are_written_once_and_stay_tied(tmp_path: Path, config: RouterConfig) -> None:
    router = Router(replace(config, llm={**config.llm, "tie_word_embeddings": True}))
    save_router(tmp_path, router)
    names = load_file(tmp_path / "model.safetensors").keys()
    assert ("llm.lm_head.weight" in names) + ("llm.model.embed_tokens.weight" in names) == 1
    loaded = load_router(tmp_path)
    assert loaded.language.lm_head.weight is loaded.language.model.embed_tokens.weight
    torch.testing.assert_close(loaded.language.lm_head.weight, router.language.lm_head.weight)


def test_small_models_come_in_small_files_and_large_ones_in_large_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("superlink.router.checkpoint.MAX_FILE_BYTES", 400)
    monkeypatch.setattr("superlink.router.checkpoint.LARGE_FILE_BYTES", 4000)
    state = {f"{index:02}": torch.zeros(100) for index in range(20)}  # of 400 bytes each
    assert len(save_weights(tmp_path / "small", "model", state)) == 20 + 1  # and the index
    assert len(save_weights(tmp_path / "large", "model", {**state, "20": torch.zeros(100)})) == 3 + 1


def test_weights_are_split_into_files_below_the_limit(tmp_path: Path) -> None:
    state = {f"layer.{i}": torch.randn(10, 10) for i in range(9)}
    state["steps"] = torch.tensor(3)
    state["again"] = state["layer.0"]
    files = save_weights(tmp_path, "decoder", state, max_bytes=900)
    parts = [path for path in files if path.suffix == ".safetensors"]
    assert len(parts) == 5
    assert all(path.stat().st_size < 900 + 500 for path in parts)
    loaded = load_weights(tmp_path, "decoder")
    assert loaded.keys() == state.keys()
    for name, tensor in state.items():
        torch.testing.assert_close(loaded[name], tensor, rtol=0, atol=0)


def test_saving_again_leaves_no_older_files(tmp_path: Path) -> None:
    save_weights(tmp_path, "model", {f"{i}": torch.zeros(100) for i in range(4)}, max_bytes=400)
    save_weights(tmp_path, "other", {"a": torch.zeros(1)})
    save_weights(tmp_path, "model", {"0": torch.ones(1)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "other.safetensors"]
    assert load_weights(tmp_path, "model").keys() == {"0"}


def test_a_set_of_weights_leaves_the_parts_of_one_with_a_longer_name(tmp_path: Path) -> None:
    parts = {f"{i}": torch.full((100,), float(i)) for i in range(4)}
    for longer in ("sam-hq", "sam-00001-of-00002", "sam.v2"):
        save_weights(tmp_path, longer, parts, max_bytes=400)
    files = save_weights(tmp_path, "sam", parts, max_bytes=800)
    assert [file.name for file in files] == [
        "sam-00001-of-00002.safetensors",
        "sam-00002-of-00002.safetensors",
        "sam.safetensors.index.json",
    ]
    assert save_weights(tmp_path, "sam", parts) == [tmp_path / "sam.safetensors"]
    assert not any(file.exists() for file in files)
    for longer in ("sam-hq", "sam-00001-of-00002", "sam.v2"):
        loaded = load_weights(tmp_path, longer)
        assert all(torch.equal(loaded[name], tensor) for name, tensor in parts.items())


def test_slices_of_one_tensor_are_saved_as_tensors_of_their_own(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    save_weights(tmp_path, "model", {"a": whole[:3], "b": whole[3:], "t": whole.view(2, 3).T})
    loaded = load_weights(tmp_path, "model")
    assert (loaded["a"].tolist(), loaded["b"].tolist()) == ([0, 1, 2], [3, 4, 5])
    assert loaded["t"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_integer_tensors_keep_their_type_in_half_precision(tmp_path: Path) -> None:
    save_weights(tmp_path, "model", {"index": torch.arange(4), "w": torch.ones(2)}, dtype="fp16")
    loaded = load_weights(tmp_path, "model")
    assert (loaded["index"].dtype, loaded["w"].dtype) == (torch.int64, torch.float16)


def test_adapters_must_be_merged_before_saving(tmp_path: Path, router: Router) -> None:
    from peft import LoraConfig, LoraModel

    adapted = copy.deepcopy(router)
    LoraModel(adapted.llm, LoraConfig(r=2, target_modules=["q_proj"]), "default")
    with pytest.raises(ModelError, match="merge them before saving"):
        save_router(tmp_path, adapted)
    assert not list(tmp_path.iterdir())


class TestBadFolders:
    """Each ends in one line that says what is wrong."""

    @pytest.fixture
    def folder(self, tmp_path: Path, router: Router) -> Path:
        save_router(tmp_path, router)
        return tmp_path

    def fails(self, folder: Path, message: str) -> None:
        with pytest.raises(ModelError, match=message) as caught:
            load_router(folder)
        assert "\n" not in str(caught.value)

    def test_no_folder(self, tmp_path: Path) -> None:
        self.fails(tmp_path / "none", r"no file '.*config\.json'; give the path")

    def test_no_weights(self, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        self.fails(folder, r"has no weights 'model\.safetensors'; is the download complete")

    def test_weights_cut_off(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        self.fails(folder, r"model\.safetensors' is damaged \(.*\); download or save it again")

    def test_empty_weights_file(self, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"")
        self.fails(folder, r"is damaged")

    @pytest.mark.parametrize("text", ["{", "", "[1]", '"text"', "\x00"])
    def test_a_configuration_that_is_no_json_object(self, folder: Path, text: str) -> None:
        (folder / "config.json").write_text(text)
        self.fails(folder, r"config\.json' (cannot be read as JSON|must hold a JSON object)")

    def test_weights_of_another_width(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        config["llm"]["hidden_size"] = 64
        (folder / "config.json").write_text(json.dumps(config))
        self.fails(
            folder, r"of another shape: .* and \d+ more; use the config\.json and the weights of the same"
        )

    def test_a_missing_part(self, folder: Path, router: Router) -> None:
        save_weights(folder, "model", router.state_dict(), max_bytes=20_000)
        sorted(folder.glob("model-*.safetensors"))[1].unlink()
        self.fails(folder, r"no weights file '.*model-00002-of-.*'; is the download complete")

    def test_a_part_of_another_save(self, folder: Path, router: Router) -> None:
        save_weights(folder, "model", router.state_dict(), max_bytes=20_000)
        first, second = sorted(folder.glob("model-*.safetensors"))[:2]
        second.write_bytes(first.read_bytes())
        self.fails(folder, r"lists \d+ tensors that its files lack, such as")

    @pytest.mark.parametrize("text", ["{}", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}'])
    def test_an_index_that_is_none(self, folder: Path, text: str) -> None:
        (folder / "model.safetensors.index.json").write_text(text)
        self.fails(folder, r"is not an index of weights")


def test_weights_are_readable_by_whoever_reads_other_new_files(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    (file,) = save_weights(tmp_path, "model", {"a": torch.zeros(2)})
    assert file.stat().st_mode == other.stat().st_mode
