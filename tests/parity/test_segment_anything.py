"""The decoder with tiny weights of the `segment_anything` package gives the numbers recorded from it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from superlink.decoders.contract import Call
from superlink.decoders.sam.config import SamConfig
from superlink.decoders.sam.decoder import SamDecoder, SamOutputs
from superlink.decoders.sam.frame import FramePrompt, sam_letterbox
from superlink.decoders.sam.keymap import config_from_weights, load_original, to_original
from superlink.decoders.sam.model import PromptBatch
from superlink.router.errors import ModelError
from superlink.router.links import LinkBatch, SuperLink
from tests.parity.fixtures import Case, Tensors, assert_close, original_case

CASE = "sam"
KINDS = ("multi", "single")


@pytest.fixture(scope="module")
def case() -> Case:
    return original_case("sam")


@pytest.fixture(scope="module")
def expected(case: Case) -> Tensors:
    return case.expected()


def recorded_config(data: Mapping[str, Any], weights: Tensors) -> SamConfig:
    """Sizes from the weights, as for any checkpoint; what shapes do not tell from the record."""
    norms = data["layer_norm_eps"]
    return replace(
        config_from_weights(weights, decoder_heads=data["dec_heads"]),
        vision_norm_eps=norms["image_encoder_blocks"],
        decoder_norm_eps=norms["two_way_transformer"],
        mean=tuple(value / 255 for value in data["pixel_mean"]),
        std=tuple(value / 255 for value in data["pixel_std"]),
    )


@pytest.fixture(scope="module")
def decoder(case: Case, weights: Tensors) -> SamDecoder:
    """Links are the recorded prompt embeddings themselves: nothing projects them."""
    config = recorded_config(case.config, weights)
    decoder = config.build(config.d_model)
    load_original(decoder, weights)
    decoder.link_embed = nn.Sequential()
    decoder.link_embed.register_parameter("unused", nn.Parameter(torch.zeros(1)))
    return decoder.eval()


@pytest.fixture(scope="module")
def features(case: Case, decoder: SamDecoder) -> Tensor:
    image = case.inputs()["image_uint8_hwc"].numpy()
    with torch.no_grad():
        return decoder.features(decoder.prepare([call_of(decoder, image, torch.zeros(1, 1, 1))]))


def call_of(decoder: SamDecoder, image: Any, links: Tensor) -> Call:
    """(K, L, c) links."""
    token = replace(decoder.config.routes[0].token, num_links=links.shape[1])
    return Call(
        id="sam.0",
        links=tuple(
            SuperLink(token=token, embeddings=one, phrase=f"thing {row}", position=row)
            for row, one in enumerate(links)
        ),
        image=image,
    )


def same(found: Tensor, recorded: Tensor) -> None:
    assert_close(found, recorded, atol=1e-5, rtol=0.0)


def prompt_batch(tensors: Tensors, points: str | None, boxes: str | None, masks: str | None) -> PromptBatch:
    """The named inputs as prompts."""
    given = {
        "points": None if points is None else tensors[f"{points}.coords"],
        "inside": None if points is None else tensors[f"{points}.labels"],
        "boxes": None if boxes is None else tensors[boxes],
        "masks": None if masks is None else tensors[masks],
    }
    sizes = {len(one) for one in given.values() if one is not None}
    return PromptBatch(size=max(sizes, default=1), **given)  # type: ignore[arg-type]


def check_masks(
    decoder: SamDecoder, masks: Tensor, fits: Tensor, expected: Tensors, name: str, *, size: tuple[int, int]
) -> None:
    """Logits of the mask grid, predicted IoU and, where recorded, logits of the picture."""
    logits = "low_res_logits" if f"{name}.low_res_logits" in expected else "low_res_masks"
    same(masks, expected[f"{name}.{logits}"])
    same(fits, expected[f"{name}.iou_predictions"])
    box = sam_letterbox(size, decoder.config.image_size)
    stride = decoder.config.mask_stride
    if f"{name}.masks" in expected:
        found = torch.stack([box.resize_to_picture(one, stride=stride) for one in masks])
        same(found, expected[f"{name}.masks"])
    if f"{name}.masks_bool" in expected:
        served = np.stack([box.masks_to_picture(one, stride=stride) for one in masks])
        assert np.array_equal(served, expected[f"{name}.masks_bool"].numpy().astype(bool))


def test_the_shapes_of_the_weights_tell_the_recorded_sizes(case: Case, decoder: SamDecoder) -> None:
    data, config = case.config, decoder.config
    assert (config.image_size, config.patch_size) == (data["image_size"], data["patch"])
    assert (config.vision_width, config.vision_layers) == (data["dim"], data["depth"])
    assert (config.vision_heads, config.window) == (data["heads"], data["window"])
    assert config.vision_ffn_dim == data["mlp_ratio"] * data["dim"]
    assert config.global_layers == tuple(data["glob"])
    assert (config.d_model, config.mask_channels) == (data["c"], data["mask_in"])
    assert (config.decoder_layers, config.decoder_ffn_dim) == (data["dec_depth"], data["dec_mlp"])
    assert (config.iou_layers, config.iou_hidden) == (data["iou_depth"], data["iou_hidden"])
    assert config.attention_downsample == data["attention_downsample_rate"]


def test_published_weights_load_strictly_and_come_back(decoder: SamDecoder, weights: Tensors) -> None:
    back = to_original(decoder)
    assert set(back) == set(weights)
    assert all(torch.equal(back[name], weights[name]) for name in weights)
    wrong = dict(weights) | {
        "image_encoder.blocks.0.extra": torch.zeros(1),
        "image_encoder.pos_embed": torch.zeros(2),
    }
    del wrong["mask_decoder.iou_token.weight"]
    with pytest.raises(ModelError, match=r"missing \['mask_decoder.iou_token.weight'\].*extra.*\(2,\), not"):
        load_original(decoder, wrong)


def test_pictures_points_and_boxes_go_to_the_recorded_frame(
    case: Case, decoder: SamDecoder, expected: Tensors
) -> None:
    tensors = case.inputs()
    image = tensors["image_uint8_hwc"].numpy()
    box = sam_letterbox(image.shape[:2], decoder.config.image_size)
    assert box.inner == tuple(case.meta["input_size"])
    assert np.array_equal(box.picture_to_frame(image), tensors["resized_image"].permute(1, 2, 0).numpy())
    inputs = decoder.prepare([call_of(decoder, image, torch.zeros(1, 1, 1))])
    same(inputs.pixels, expected["preprocessed"])
    for found, name in (
        (box.points_to_frame(tensors["original_coords"].numpy()), "transform.coords"),
        (box.boxes_to_frame(tensors["original_boxes"].numpy()), "transform.boxes"),
    ):
        same(torch.from_numpy(found).float(), expected[name])


def test_the_image_encoder_gives_the_recorded_features(
    case: Case, decoder: SamDecoder, features: Tensor, expected: Tensors
) -> None:
    found: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, output: found.append(output))
        for layer in decoder.model.vision_encoder.layers
    ]
    with torch.no_grad():
        decoder.model.encode(expected["preprocessed"])
    for hook in hooks:
        hook.remove()
    assert len(found) == case.config["depth"]
    for layer, states in enumerate(found):
        same(states, expected[f"mid.encoder_block_{layer}"])
    same(features, expected["image_embedding"])
    same(decoder.model.positions(), expected["image_pe"])


def test_every_combination_of_prompts_gives_the_recorded_masks(
    case: Case, decoder: SamDecoder, features: Tensor, expected: Tensors
) -> None:
    assert case.meta["combos"]
    combos = dict(case.meta["combos"]) | {"boxes_n": (None, "boxes_n", None)}
    tensors = case.inputs()
    for name, (points, boxes, masks) in combos.items():
        prompts = prompt_batch(tensors, points, boxes, masks)
        with torch.no_grad():
            sparse, dense = decoder.model.embed(prompts)
            same(sparse, expected[f"{name}.sparse"])
            if f"{name}.dense" in expected:
                same(dense, expected[f"{name}.dense"].expand_as(dense))
            for kind in KINDS:
                found = decoder.model.decode(
                    features.expand(prompts.size, -1, -1, -1), sparse, dense, multimask=kind == "multi"
                )
                check_masks(decoder, *found, expected, f"{name}.{kind}", size=case.meta["original_size"])


def test_the_whole_model_gives_the_recorded_masks_of_the_picture(
    case: Case, decoder: SamDecoder, features: Tensor, expected: Tensors
) -> None:
    sparse, dense = decoder.model.embed(prompt_batch(case.inputs(), "points_3", "boxes", "mask_input"))
    for kind in KINDS:
        with torch.no_grad():
            found = decoder.model.decode(features, sparse, dense, multimask=kind == "multi")
        check_masks(decoder, *found, expected, f"forward.{kind}", size=case.meta["original_size"])


def run(decoder: SamDecoder, call: Call, prompts: tuple[FramePrompt, ...], *, kind: str) -> SamOutputs:
    """The decoder's own path from a call to masks, with prompts that are in the frame already."""
    own = copy(decoder)
    own.config = replace(decoder.config, multimask=kind == "multi")
    with torch.no_grad():
        inputs = replace(own.prepare([call]), prompts=prompts)
        outputs: SamOutputs = own(LinkBatch.of([call.links]), inputs)
    return outputs


def link_prompts(count: int, boxes: Tensor | None = None) -> tuple[FramePrompt, ...]:
    none, flags = torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)
    return tuple(
        FramePrompt(call=0, label=row, points=none, inside=flags, box=None if boxes is None else boxes[row])
        for row in range(count)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_links_as_prompts_give_the_recorded_masks(
    case: Case, decoder: SamDecoder, expected: Tensors, kind: str
) -> None:
    tensors = case.inputs()
    image, links = tensors["image_uint8_hwc"].numpy(), tensors["link_embeddings"]
    size = case.meta["original_size"]
    middle: list[Any] = []
    hook = decoder.model.mask_decoder.transformer.register_forward_hook(
        lambda _, __, output: middle.append(output)
    )
    outputs = run(decoder, call_of(decoder, image, links), link_prompts(len(links)), kind=kind)
    hook.remove()
    queries, keys = middle[0]
    same(queries[:, 0], expected["link.mid.transformer_queries"])
    same(keys[:, 0], expected["link.mid.transformer_keys"])
    check_masks(decoder, outputs.logits, outputs.fits, expected, f"link.{kind}", size=size)
    boxes = tensors["boxes_n"]
    after = link_prompts(len(boxes), boxes)
    outputs = run(decoder, call_of(decoder, image, links[: len(boxes)]), after, kind=kind)
    check_masks(decoder, outputs.logits, outputs.fits, expected, f"link_after_box.{kind}", size=size)


@pytest.mark.parametrize("kind", KINDS)
def test_a_link_of_one_embedding_gives_the_recorded_mask(
    case: Case, decoder: SamDecoder, expected: Tensors, kind: str
) -> None:
    tensors = case.inputs()
    rows = expected["link_one_token.single.iou_predictions"].shape[0]
    call = call_of(decoder, tensors["image_uint8_hwc"].numpy(), tensors["link_embeddings"][:rows, :1])
    outputs = run(decoder, call, link_prompts(rows), kind=kind)
    size = case.meta["original_size"]
    check_masks(decoder, outputs.logits, outputs.fits, expected, f"link_one_token.{kind}", size=size)
