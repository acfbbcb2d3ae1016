"""Visual tokens of the size of words, which say where they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from superlink.agents.model_folder import load_model, save_model
from superlink.router.keymap import load_published, published_state
from superlink.router.model import Router
from superlink.router.places import Places
from tests.agents.tiny_model import build_model


def test_tokens_of_any_size_come_out_as_large_as_words() -> None:
    places = Places(49, 192, 0.08)
    for size in (0.1, 1.0, 30.0):
        seen = size * torch.randn(3, 49, 192)
        assert float(places(seen).detach().std()) == pytest.approx(0.08 * (1 + 0.5**2) ** 0.5, rel=0.03)


def test_places_that_are_near_are_more_alike_than_places_that_are_far() -> None:
    side = 7
    vectors = Places(side * side, 64, 1.0).vectors.weight.detach()
    at = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1).reshape(-1, 2)
    away = (at[:, None] - at[None]).float().norm(dim=-1)
    alike = torch.nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=-1)
    means = [float(alike[(away > low) & (away <= low + 1)].mean()) for low in (-0.5, 0.5, 1.5, 2.5)]
    assert means == sorted(means, reverse=True)
    assert len({tuple(row) for row in vectors.tolist()}) == side * side


def test_rows_and_columns_can_be_read_off_linearly() -> None:
    side = 7
    vectors = Places(side * side, 64, 1.0).vectors.weight.detach().double()
    vectors = torch.cat([vectors, torch.ones(side * side, 1)], 1)
    for wanted in (torch.arange(side).repeat_interleave(side), torch.arange(side).repeat(side)):
        found = torch.linalg.pinv(vectors, rtol=1e-6) @ wanted.double()
        assert float((vectors @ found - wanted).abs().max()) < 0.25


def test_the_same_things_elsewhere_give_other_tokens_only_with_places() -> None:
    config = build_model().router.config
    for has_places in (False, True):
        torch.manual_seed(0)
        router = Router(replace(config, places=has_places)).eval()
        patch = torch.randn(1, 3, config.patch_size, config.patch_size)
        cells = config.image_size // config.patch_size
        features = router.bridge(torch.ones(1, config.tokens_per_tile, router.bridge[0].in_features))
        if router.places is not None:
            features = router.places(features)
        assert torch.equal(features[0, 0], features[0, -1]) != has_places
        assert router.see(patch.repeat(1, 1, cells, cells)).tokens.shape == features.shape


def test_they_are_kept_in_folders_and_under_published_names(tmp_path: Path) -> None:
    model = build_model()
    router = Router(replace(model.router.config, places=True)).eval()
    save_model(tmp_path / "model", replace(model, router=router))
    again = load_model(tmp_path / "model").router
    torch.testing.assert_close(again.state_dict(), router.state_dict(), rtol=1e-2, atol=1e-3)
    assert "places.vectors.weight" in load_file(next((tmp_path / "model/router").glob("*.safetensors")))
    other = Router(router.config)
    load_published(other, published_state(router))
    torch.testing.assert_close(other.state_dict(), router.state_dict(), rtol=0, atol=0)
