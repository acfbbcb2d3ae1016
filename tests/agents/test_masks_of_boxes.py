"""Two decoders for one routing token: the detector finds boxes, Segment Anything outlines them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from superlink.agents.model_folder import Model, load_model, save_model
from superlink.agents.worker import answer
from superlink.decoders.artifacts import Boxes, Masks, equal
from superlink.decoders.contract import Call, Result
from superlink.decoders.grounding_dino.config import perception_routes
from superlink.decoders.sam import SamConfig
from superlink.decoders.sam.config import mask_routes
from superlink.router.errors import ModelError
from superlink.router.generation import GenerateOptions, Request, generate
from superlink.router.messages import Message
from superlink.router.model import Router
from tests.agents.tiny_model import decoder_config, reply_ids, router_config, saying, scene, tokenizer

TEXT = "Outlined:<det> cat</det>[SEG] and boxed:<det> dog</det>[DET]."


def sam_config(after: str | None = "[DET]") -> SamConfig:
    return SamConfig(
        routes=mask_routes(after=after),
        image_size=64,
        vision_width=16,
        vision_layers=1,
        vision_heads=2,
        window=2,
        global_layers=(0,),
        d_model=16,
        mask_channels=4,
        decoder_heads=2,
        decoder_ffn_dim=16,
        iou_hidden=16,
        threshold=0.0,
    )


def build(after: str | None = "[DET]", *, boxes: bool = True) -> Model:
    """The detector without its own masks, and Segment Anything behind it."""
    torch.manual_seed(0)
    detector = replace(decoder_config(), routes=perception_routes()[:2])
    configs = (detector, sam_config(after)) if boxes else (sam_config(after),)
    tokens = tuple(route.token for config in configs for route in config.routes)
    router = Router(replace(router_config(tokenizer()), tokens=tokens)).eval()
    decoders = tuple(config.build(router.config.width).eval() for config in configs)
    return Model(name="cutter", router=router, tokenizer=tokenizer(), decoders=decoders)


def test_masks_are_those_of_the_boxes_that_the_detector_finds_for_the_same_link() -> None:
    model = build()
    with saying(model, TEXT) as system:
        turn = system.ask("Outline the cat.", image=scene())
    masks, boxes = turn.artifacts
    assert not turn.failures
    assert isinstance(masks, Masks)
    assert isinstance(boxes, Boxes)
    assert (masks.names, masks.origin.decoder, boxes.names) == (("cat",), "sam", ("dog",))
    detector, sam = model.decoders
    question = Message(role="user", text="Outline the cat.", images=(scene(),))
    options = GenerateOptions(forced=reply_ids(TEXT))
    (reply,) = generate(model.router, model.tokenizer, [Request(conversation=(question,), options=options)])
    cat, dog = reply.links
    found = answer(detector, [Call(id="a", links=(replace(cat, token=dog.token),), image=scene())])
    assert isinstance(found[0], Result)
    cut = answer(sam, [Call(id="b", links=(cat,), image=scene(), inputs=(found[0].artifact,))])
    assert isinstance(cut[0], Result)
    assert isinstance(cut[0].artifact, Masks)
    np.testing.assert_array_equal(masks.masks, cut[0].artifact.masks)
    np.testing.assert_allclose(masks.scores, cut[0].artifact.scores, rtol=1e-5)


@pytest.mark.parametrize("text", ["Outlined:<det> cat</det>[SEG].", "Boxed:<det> dog</det>[DET]."])
def test_such_a_system_is_saved_and_loaded(tmp_path: Path, text: str) -> None:
    # One call a reply: two for the detector meet in one pass or do not, as time has it, and last bits differ.
    model = build()
    save_model(tmp_path / "cutter", model)
    loaded = load_model(tmp_path / "cutter")
    with saying(model, text) as before, saying(loaded, text) as after:
        first, second = before.ask("Find.", image=scene()), after.ask("Find.", image=scene())
    for one, other in zip(first.artifacts, second.artifacts, strict=True):
        assert equal(one, other)


def test_an_order_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"\[SEG\] of decoder 'sam' comes after \[DET\], which no decoder answers"
    ):
        build(boxes=False)
    with pytest.raises(ModelError, match=r"comes after \[SEG\], which itself comes after"):
        build(after="[SEG]")


def test_a_routing_token_has_one_decoder() -> None:
    torch.manual_seed(0)
    router = Router(router_config(tokenizer())).eval()
    twins = [replace(decoder_config(), name=name).build(router.config.width) for name in ("one", "two")]
    with pytest.raises(ModelError, match=r"'one' and 'two' both answer \[DET\]"):
        Model(name="twins", router=router, tokenizer=tokenizer(), decoders=tuple(twins))
