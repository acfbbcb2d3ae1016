"""Editors that tell what changes, and the pixels that an edit leaves alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from superlink.decoders.artifacts import Picture
from superlink.decoders.diffusion.config import LossWeights
from superlink.decoders.diffusion.decoder import DiffusionDecoder
from superlink.decoders.diffusion.inputs import to_tensor
from superlink.decoders.diffusion.keeping import changed, with_pixels_of
from superlink.router.errors import ModelError
from superlink.router.links import LinkBatch
from tests.decoders.diffusion.painters import DDIM, LINK_DIM, SIDE, answers, call_of, picture, small_editor

SAMPLES = {**DDIM, "prediction_type": "sample"}


def fresh(**changes: Any) -> DiffusionDecoder:
    """One from its source, that has learned nothing."""
    torch.manual_seed(0)
    config = small_editor(scheduler=SAMPLES, from_source=True, guidance=1.0, **changes)
    return config.build(LINK_DIM).eval()


def test_a_fresh_editor_gives_its_source_as_the_autoencoder_shows_it() -> None:
    decoder = fresh()
    call = call_of(decoder.config)
    (made,) = answers(decoder, [call])
    assert call.image is not None
    with torch.inference_mode():
        latents = decoder.vae.encode(to_tensor(call.image)).latent_dist.mode()
        shown = decoder.vae.decode(latents).sample
    expected = ((shown[0] * 0.5 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    # 0.18215 scales latents there and back.
    assert np.abs(made.pixels - expected).max() <= 1


@pytest.mark.parametrize("size", [(SIDE, SIDE), (45, 30), (200, 90)])
def test_what_an_edit_leaves_alone_keeps_its_pixels_at_full_size(size: tuple[int, int]) -> None:
    decoder = fresh(keep_pixels=True)
    call = call_of(decoder.config, size=size)
    noisy = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)  # finer than any frame
    (made,) = answers(decoder, [call_of(decoder.config, image=noisy)])
    np.testing.assert_array_equal(made.pixels, noisy)
    (smooth,) = answers(decoder, [call])
    np.testing.assert_array_equal(smooth.pixels, call.image)


def test_only_the_place_of_an_edit_changes() -> None:
    source = picture(120, 80)
    again = to_tensor(picture(60, 40))
    edited = again.clone()
    edited[:, 0, 20:40, 10:25] = 1.0
    edited[:, 1:, 20:40, 10:25] = -1.0
    mixed = with_pixels_of(source, again, edited)
    assert (mixed[54:66, 34:36] == (255, 0, 0)).all()  # seven pixels of the frame inside: resizing rings
    far = np.ones(source.shape[:2], bool)
    far[30:90, 10:60] = False
    np.testing.assert_array_equal(mixed[far], source[far])


def test_a_place_is_changed_from_a_fifth_of_the_range_on() -> None:
    again = torch.zeros(1, 3, 8, 8)
    for difference, share in ((0.08, 0.0), (0.15, 0.5), (0.20, 1.0), (0.5, 1.0)):
        edited = again.clone()
        edited[:, 2] += 2 * difference  # [-1, 1] is a range of two
        torch.testing.assert_close(changed(again, edited), torch.full((1, 1, 8, 8), share), atol=1e-5, rtol=0)


def test_the_source_is_part_of_what_an_editor_learns_to_predict() -> None:
    decoder = fresh().train()
    call = call_of(decoder.config)
    assert call.image is not None
    inputs = decoder.prepare([call], [Picture(pixels=call.image)])
    outputs = decoder(LinkBatch.of([call.links]), inputs)
    assert outputs.denoised is not None
    with torch.no_grad():
        mean = decoder.vae.encode(to_tensor(call.image)).latent_dist.mode() * 0.18215
    torch.testing.assert_close(outputs.denoised.predicted, mean)


def test_the_change_term_is_the_error_where_answer_and_source_differ() -> None:
    decoder = fresh(weights=LossWeights(change=0.5)).train()
    call = call_of(decoder.config)
    assert call.image is not None
    answer = call.image.copy()
    answer[4:12, 6:12] = (255, 0, 0)
    inputs = decoder.prepare([call, call], [Picture(pixels=answer), Picture(pixels=call.image)])
    outputs = decoder(LinkBatch.of([call.links] * 2), inputs)
    denoised = outputs.denoised
    assert denoised is not None
    assert denoised.changed is not None
    with torch.no_grad():
        source, wanted = (
            decoder.vae.encode(to_tensor(one)).latent_dist.mode() * 0.18215 for one in (call.image, answer)
        )
    places = ((wanted - source).abs().amax(1) > 0.1)[0]
    assert 0 < int(places.sum()) < places.numel()
    torch.testing.assert_close(denoised.changed[0, 0], places)
    assert not denoised.changed[1].any()
    terms = decoder.loss(outputs, inputs, count=2.0)
    # A fresh editor predicts the source; the goal has its own draw of noise, so it is taken as it is.
    apart = ((source - denoised.goal[0]) ** 2)[0].mean(0)
    torch.testing.assert_close(terms["loss_change"], apart[places].mean() / 2)
    assert decoder.weights == {"loss_noise": 1.0, "loss_change": 0.5}


def test_without_its_weight_there_is_no_change_term() -> None:
    decoder = fresh().train()
    call = call_of(decoder.config)
    assert call.image is not None
    inputs = decoder.prepare([call], [Picture(pixels=255 - call.image)])
    terms = decoder.loss(decoder(LinkBatch.of([call.links]), inputs), inputs, count=1.0)
    assert set(terms) == set(decoder.weights) == {"loss_noise"}


def test_a_negative_weight_of_the_change_is_refused() -> None:
    with pytest.raises(ModelError, match=r"weights.change is at least 0, got -1"):
        small_editor(weights=LossWeights(change=-1))
