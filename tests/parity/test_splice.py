"""The router's teacher-forced forward against recorded numbers of VisionLLM v2."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from superlink.router.batch import RouterBatch, RouterOutput
from superlink.router.errors import InputError
from superlink.router.keymap import published_state
from superlink.router.model import Router
from tests.parity.fixtures import (
    Case,
    Tensors,
    assert_close,
    assert_embedding,
    assert_loss,
    indexed,
    subcase_names,
)
from tests.parity.routers import recorded_router

CASE = "b_splice_llm"
MISMATCHED = [name for name in subcase_names(CASE) if name.startswith("mismatch")]
REGULAR = [name for name in subcase_names(CASE) if name not in MISMATCHED]


@pytest.fixture(scope="module")
def router(case: Case) -> Router:
    return recorded_router(case)


def batch_of(case: Case, name: str) -> RouterBatch:
    """The recorded inputs as a batch; pictures of rows without visual tokens are left out."""
    inputs, meta = case.inputs(name), case.subcases[name]
    ids = inputs["input_ids"]
    images = indexed(inputs, "images") or list(inputs["images"].unsqueeze(1))
    regions = indexed(inputs, "regions") or [torch.zeros(0)] * len(ids)
    splits: Any = meta.get("num_splits") or [[len(image)] for image in images]
    shown = (ids == case.meta["special_token_ids"]["<im_patch>"]).any(dim=1).tolist()
    tiles = [image for image, seen in zip(images, shown, strict=True) if seen]
    masks = [mask.unsqueeze(1) for mask in regions if len(mask)]
    return RouterBatch(
        input_ids=ids,
        attention_mask=inputs["attention_mask"],
        labels=inputs["labels"],
        tiles=torch.cat(tiles) if tiles else None,
        tile_counts=tuple(tuple(split) if seen else () for split, seen in zip(splits, shown, strict=True)),
        regions=torch.cat(masks) if masks else None,
        # With several pictures, region k lies on picture k; else all lie on the one picture.
        region_images=tuple(
            tuple(range(len(mask))) if len(split) > 1 else (0,) * len(mask)
            for mask, split in zip(regions, splits, strict=True)
        ),
    )


@pytest.mark.parametrize("name", REGULAR)
def test_embeddings_hidden_states_logits_and_loss_are_as_recorded(
    case: Case, router: Router, name: str
) -> None:
    batch, expected = batch_of(case, name), case.expected(name)
    with torch.no_grad():
        embeds = router.embed(batch)
        output = router(batch, output_hidden_states=True)
    assert_embedding(embeds, expected["mid.inputs_embeds"])
    for found, recorded in zip(output.hidden_states, indexed(expected, "mid.hidden_states"), strict=False):
        assert_close(found, recorded)
    assert_close(output.hidden, expected["last_hidden"])
    assert_close(output.logits, expected["logits"])
    assert_loss(output.loss, expected["loss"])
    assert output.loss_count == int((expected["labels_after_ignore"][:, 1:] != -100).sum())


@pytest.mark.parametrize("name", REGULAR)
def test_tower_and_bridge_are_as_recorded(case: Case, router: Router, name: str) -> None:
    inputs, expected = case.inputs(name), case.expected(name)
    tiles = torch.cat(indexed(inputs, "images") or [inputs["images"]])
    with torch.no_grad():
        states = router.vision_tower(tiles, output_hidden_states=True).hidden_states
        features = router.see(tiles)
    for found, recorded in zip(states, indexed(expected, "mid.vis_hidden_states"), strict=True):
        assert_close(found, recorded)
    assert_embedding(features.tokens, expected["mid.vl_bridge_out"])
    assert features.tokens.shape[1] == case.meta["image_tokens_per_tile"] == router.config.tokens_per_tile


@pytest.mark.parametrize("name", REGULAR)
def test_link_groups_owned_by_their_tokens_are_what_the_tools_received(
    case: Case, router: Router, name: str
) -> None:
    expected = case.expected(name)
    with torch.no_grad():
        output: RouterOutput = router(batch_of(case, name))
    tool = case.subcases[name]["handed_to"]
    checked = {"gdino": check_detector, "unipose": check_pose, "sd": check_states, "ip2p": check_states}
    if tool is None:
        assert not any(key.startswith("to_") for key in expected)
    else:
        checked[tool](output, expected, tool)


def check_detector(output: RouterOutput, expected: Tensors, tool: str) -> None:
    check_rows(output, {"[DET]", "[SEG]", "[GRD]"}, expected, "to_gdino.text_query")


def check_pose(output: RouterOutput, expected: Tensors, tool: str) -> None:
    check_rows(output, {"[DET]"}, expected, "to_unipose.obj_query", suffix="s")
    check_rows(output, {"[POSE]"}, expected, "to_unipose.kpt_query", suffix="s")


def check_rows(
    output: RouterOutput, texts: set[str], expected: Tensors, name: str, *, suffix: str = ""
) -> None:
    queries, masks = expected[f"{name}{suffix}"], expected[f"{name}_masks"]
    for row, links in enumerate(output.links):
        owned = [link.embeddings for link in links if link.token.text in texts]
        assert len(owned) == int(masks[row].sum())
        if owned:
            assert_close(torch.stack(owned), queries[row, : len(owned)])


def check_states(output: RouterOutput, expected: Tensors, tool: str) -> None:
    states: Tensor = expected[f"to_{tool}.hidden_states"]
    found = [(row, link) for row, links in enumerate(output.links) for link in links]
    assert found
    for row, link in found:
        after = link.position + 1
        assert_close(link.embeddings, states[row, after : after + link.token.num_links])


@pytest.mark.parametrize("name", [name for name in REGULAR if "region" in name or "mmic" in name])
def test_region_embeddings_are_as_recorded(case: Case, router: Router, name: str) -> None:
    batch = batch_of(case, name)
    where = batch.input_ids == router.config.token_ids.region
    with torch.no_grad():
        found = router.embed(batch)[where]
    assert_embedding(found, case.expected(name)["mid.region_features"])


@pytest.mark.parametrize("name", MISMATCHED)
def test_visual_tokens_that_do_not_match_the_tiles_raise_with_both_numbers(
    case: Case, router: Router, name: str
) -> None:
    batch = batch_of(case, name)
    present = int((batch.input_ids == router.config.token_ids.image_patch).sum())
    wanted = len(batch.tiles if batch.tiles is not None else ()) * case.meta["image_tokens_per_tile"]
    with pytest.raises(InputError, match=rf"has {present} visual tokens, .* make {wanted}"):
        router(batch)


def test_saving_under_published_names_gives_back_the_recorded_state(case: Case, router: Router) -> None:
    weights = case.weights()
    saved = published_state(router)
    assert saved.keys() == {name for name in weights if not name.endswith("position_ids")}
    for name, tensor in saved.items():
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=0)
