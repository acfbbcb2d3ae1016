"""Router and detector together against a recorded run: links, losses, gradients through the links.

With unequal class counts the recorded detector mixes up the masks of its batch (this project does
not), so then only what comes before the detector is compared; with equal counts everything is.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from superlink.decoders.grounding_dino.decoder import DetectionOutputs, GroundingDinoDecoder
from superlink.decoders.grounding_dino.inputs import DetectionInputs
from superlink.decoders.grounding_dino.keymap import rename_back
from superlink.decoders.grounding_dino.losses import Targets
from superlink.router.batch import RouterBatch, RouterOutput
from superlink.router.keymap import published_name
from superlink.router.links import LinkBatch
from superlink.router.model import Router
from tests.parity.detectors import (
    RecordedNoise,
    check_gradients,
    check_terms,
    gradient_norms,
    inputs_of,
    padded,
    recorded_detector,
    recorded_targets,
    to_width,
)
from tests.parity.fixtures import (
    Case,
    Tensors,
    assert_close,
    assert_embedding,
    assert_loss,
    indexed,
    under,
)
from tests.parity.routers import recorded_router

CASE = "g_end_to_end_det"


@pytest.fixture
def router(case: Case, weights: Tensors) -> Router:
    return recorded_router(case, weights)


@pytest.fixture
def decoder(case: Case, weights: Tensors) -> GroundingDinoDecoder:
    config, overrides = case.config["gdino_config"], case.meta["runtime_overrides"]
    return recorded_detector(config, overrides, weights, prefix="gdino.")


def router_batch(inputs: Tensors) -> RouterBatch:
    images = inputs["images"]
    regions = indexed(inputs, "regions")
    return RouterBatch(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        labels=inputs["labels"],
        tiles=images,
        tile_counts=tuple((1,) for _ in images),
        regions=torch.cat(regions).unsqueeze(1),
        region_images=tuple((0,) * len(mask) for mask in regions),
    )


def detector_links(output: RouterOutput) -> LinkBatch:
    """Links of all routing tokens that the detector answers, padded to the same number."""
    rows = [
        torch.stack([link.embeddings for link in links if link.token.decoder == "grounding_dino"])
        for links in output.links
    ]
    most = max(len(row) for row in rows)
    mask = torch.zeros(len(rows), most, dtype=torch.bool)
    for index, row in enumerate(rows):
        mask[index, : len(row)] = True
    stacked = [torch.cat([row, row.new_zeros(most - len(row), *row.shape[1:])]) for row in rows]
    return LinkBatch(embeddings=torch.stack(stacked), mask=mask)


def equal_counts(case: Case) -> bool:
    masks = case.expected()["train.to_gdino.text_query_masks"]
    return len(set(masks.sum(1).tolist())) == 1


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_links_of_the_router_are_what_the_recorded_detector_received(
    case: Case, router: Router, mode: str
) -> None:
    expected = case.expected()
    with torch.no_grad():
        output = router(router_batch(case.inputs()))
    assert_close(output.hidden, expected[f"{mode}.last_hidden"])
    assert_close(output.logits, expected[f"{mode}.logits"])
    links = detector_links(output)
    assert torch.equal(links.mask, expected[f"{mode}.to_gdino.text_query_masks"])
    queries = expected[f"{mode}.to_gdino.text_query"]
    assert_close(links.embeddings[links.mask], queries[links.mask])


def test_the_recorded_loss_is_language_loss_plus_weighted_detector_terms(
    case: Case, router: Router, decoder: GroundingDinoDecoder
) -> None:
    expected = case.expected()
    with torch.no_grad():
        output = router(router_batch(case.inputs()))
    terms = {name.removeprefix("train.loss."): v for name, v in expected.items() if "train.loss." in name}
    assert set(terms) == set(decoder.weights)
    weighted = sum(decoder.weights[name] * value for name, value in terms.items())
    assert_loss(weighted, expected["train.loss_gdino"])
    assert output.loss is not None
    assert_loss(output.loss + weighted, expected["train.loss"])


def detect(
    decoder: GroundingDinoDecoder, inputs: Tensors, links: LinkBatch, **training: Any
) -> tuple[DetectionInputs, DetectionOutputs]:
    pixels, valid = padded(indexed(inputs, "images_aug"))
    prepared = inputs_of(decoder, pixels, valid, **training)
    return prepared, decoder(links, prepared)


def test_detector_outputs_are_as_recorded_where_class_counts_are_equal(
    case: Case, router: Router, decoder: GroundingDinoDecoder
) -> None:
    if not equal_counts(case):
        pytest.skip("recorded with unequal class counts, whose mask mix-up is not repeated")
    expected = case.expected()
    with torch.no_grad():
        links = detector_links(router(router_batch(case.inputs())))
        _, outputs = detect(decoder, case.inputs(), links)
    width = case.config["gdino_config"]["max_text_len"]
    assert_close(to_width(outputs.layers.logits[-1], width), expected["eval.gdino.logits"])
    assert_embedding(outputs.layers.boxes[-1], expected["eval.gdino.pred_boxes"])


def test_joint_losses_and_gradients_are_as_recorded_where_class_counts_are_equal(
    case: Case, router: Router, decoder: GroundingDinoDecoder
) -> None:
    if not equal_counts(case):
        pytest.skip("recorded with unequal class counts, whose mask mix-up is not repeated")
    inputs, expected = case.inputs(), case.expected()
    output = router(router_batch(inputs))
    terms = joint_terms(case, decoder, detector_links(output))
    gdino = {name.removeprefix("train."): value for name, value in expected.items()}
    gdino["loss"] = expected["train.loss_gdino"]
    check_terms(decoder, terms, gdino, "")
    total = torch.stack([decoder.weights[name] * term for name, term in terms.items()]).sum()
    assert output.loss is not None
    (output.loss + total).backward()
    recorded = case.meta["grad_norms"]
    heads = {name.removeprefix("gdino."): v for name, v in recorded.items() if name.startswith("gdino.")}
    check_gradients(gradient_norms(decoder), heads)
    found = router_gradients(router) | decoder_gradients(decoder)
    for name, value in under(expected, "grad.").items():
        assert_close(found[name], value, atol=1e-4 * float(value.abs().max()))
    norms = {name: float(value.norm()) for name, value in found.items() if name in recorded}
    check_gradients(norms, {name: value for name, value in recorded.items() if name in norms})


def router_gradients(router: Router) -> Tensors:
    """Gradients by published name."""
    named = router.named_parameters()
    return {published_name(name): one.grad for name, one in named if one.grad is not None}


def decoder_gradients(decoder: GroundingDinoDecoder) -> Tensors:
    """The gradients that keep their name, with the prefix of a whole checkpoint."""
    named = decoder.named_parameters()
    return {f"gdino.{rename_back(name)}": one.grad for name, one in named if one.grad is not None}


def joint_terms(case: Case, decoder: GroundingDinoDecoder, links: LinkBatch) -> dict[str, torch.Tensor]:
    inputs = case.inputs()
    pixels, _ = padded(indexed(inputs, "images_aug"))
    targets: Targets = recorded_targets(inputs, case.meta["id2index"], pixels.shape[-2:], name="targets.{}")
    noise = RecordedNoise(inputs, functions=("prepare_for_cdn", "sample_points"))
    decoder.train()
    prepared, outputs = detect(decoder, inputs, links, targets=targets, noise=noise)
    terms = decoder.loss(outputs, prepared, count=decoder.count(prepared))
    assert noise.exhausted()
    return terms
