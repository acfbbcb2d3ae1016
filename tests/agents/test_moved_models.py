"""Model folders need nothing outside of them: what a decoder reads beside its weights moves along."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from superlink.agents.model_folder import Model, load_model, read_outline, save_model
from superlink.decoders.artifacts import Picture
from superlink.decoders.diffusion.config import StableDiffusionConfig
from superlink.decoders.diffusion.folder import config_from_folder, load_folder
from superlink.router.errors import ModelError
from superlink.router.links import LinkBatch
from superlink.router.model import Router
from tests.agents.tiny_model import router_config, tokenizer
from tests.decoders.diffusion.painters import DDIM, SIDE, call_of, of_kind, picture, run, save_pipeline

WIDTH = 32  # of the router's links


def painting_model(source: Path) -> Model:
    """A router with one painter, which reads the words of its links with the tokenizer in `source`."""
    save_pipeline(source, DDIM, edits=False)
    config = of_kind(config_from_folder(source, steps=2), "text")
    torch.manual_seed(0)
    router = Router(replace(router_config(tokenizer()), tokens=(config.routes[0].token,))).eval()
    decoder = config.build(WIDTH).eval()
    load_folder(decoder, source)
    return Model(name="painter", router=router, tokenizer=tokenizer(), decoders=(decoder,))


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return painting_model(tmp_path / "source")


def painter(model: Model) -> Any:
    (decoder,) = model.decoders
    assert isinstance(decoder.config, StableDiffusionConfig)
    return decoder


def painted(model: Model) -> torch.Tensor:
    (made,) = run(painter(model), [call_of(painter(model).config, phrase="a red cat", seed=5)]).pictures
    return made


def caption_term(model: Model) -> float:
    """How far the mapped link of a caption is from the text encoder's vectors of its words."""
    decoder = painter(model)
    call = replace(call_of(decoder.config, phrase="a red cat"), image=picture(SIDE, SIDE))
    (link,) = call.links
    generator = torch.Generator().manual_seed(3)
    link = replace(
        link, embeddings=torch.randn(1, WIDTH, generator=generator), token=replace(link.token, kind="token")
    )
    call = replace(call, links=(link,))
    links = LinkBatch.of([call.links])
    with torch.no_grad():
        inputs = decoder.prepare([call], [Picture(pixels=picture(SIDE, SIDE))])
        return float(decoder.loss(decoder(links, inputs), inputs, count=1.0)["loss_caption"])


def test_a_moved_model_reads_words_as_before_without_the_folder_it_came_from(
    model: Model, tmp_path: Path
) -> None:
    drawn, told = painted(model), caption_term(model)
    assert told > 0
    save_model(tmp_path / "here", model)
    shutil.move(tmp_path / "here", tmp_path / "there")
    shutil.rmtree(tmp_path / "source")
    moved = load_model(tmp_path / "there")
    assert torch.equal(painted(moved), drawn)
    assert caption_term(moved) == told
    # And once more from there.
    save_model(tmp_path / "copy", moved)
    shutil.rmtree(tmp_path / "there")
    assert torch.equal(painted(load_model(tmp_path / "copy")), drawn)


def test_no_file_of_a_saved_model_names_a_place_outside_of_it(model: Model, tmp_path: Path) -> None:
    save_model(tmp_path / "saved", model)
    place = tmp_path / "saved/decoders/stable_diffusion"
    assert json.loads((place / "config.json").read_text())["config"]["tokenizer"] == "tokenizer"
    names = {path.name for path in (place / "tokenizer").iterdir()}
    assert names == {path.name for path in (tmp_path / "source/tokenizer").iterdir()}
    for path in (tmp_path / "saved").rglob("*.json"):
        assert str(tmp_path) not in path.read_text(), path
    _, _, (config,) = read_outline(tmp_path / "saved")
    assert isinstance(config, StableDiffusionConfig)
    assert config.tokenizer == str(place / "tokenizer")


def test_a_relative_folder_is_found_from_everywhere(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path / "saved", model)
    monkeypatch.chdir(tmp_path)
    loaded = load_model("saved")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert torch.equal(painted(loaded), painted(model))


def test_a_model_saved_over_itself_keeps_its_tokenizer(model: Model, tmp_path: Path) -> None:
    save_model(tmp_path / "saved", model)
    loaded = load_model(tmp_path / "saved")
    save_model(tmp_path / "saved", loaded)
    assert torch.equal(painted(load_model(tmp_path / "saved")), painted(model))


def test_files_of_another_tokenizer_do_not_stay_beside_the_new_one(model: Model, tmp_path: Path) -> None:
    stale = tmp_path / "saved/decoders/stable_diffusion/tokenizer/vocab.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("{}")
    save_model(tmp_path / "saved", model)
    assert not stale.exists()


def test_folders_that_name_the_tokenizer_in_full_still_load(model: Model, tmp_path: Path) -> None:
    save_model(tmp_path / "old", model)
    place = tmp_path / "old/decoders/stable_diffusion"
    data = json.loads((place / "config.json").read_text())
    data["config"]["tokenizer"] = str(tmp_path / "source/tokenizer")
    (place / "config.json").write_text(json.dumps(data))
    shutil.rmtree(place / "tokenizer")
    old = load_model(tmp_path / "old")
    assert torch.equal(painted(old), painted(model))
    save_model(tmp_path / "new", old)
    shutil.rmtree(tmp_path / "source")
    assert torch.equal(painted(load_model(tmp_path / "new")), painted(model))
    # The old folder has lost its tokenizer: it still loads and is saved, and says so when asked to read.
    left = load_model(tmp_path / "old")
    save_model(tmp_path / "rest", left)
    with pytest.raises(ModelError, match=r"no tokenizer in .*source"):
        painted(load_model(tmp_path / "rest"))
