"""Both diffusion decoders against recorded numbers of VisionLLM v2: weights, losses, pictures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from superlink.decoders.diffusion.decoder import DiffusionDecoder
from superlink.decoders.diffusion.keymap import load_published, published_name, to_published
from superlink.router.errors import ModelError
from tests.parity.detectors import check_gradients
from tests.parity.fixtures import (
    Case,
    Tensors,
    assert_close,
    assert_embedding,
    assert_loss,
    parity_case,
    under,
)
from tests.parity.painters import (
    give_recorded_noise,
    recorded_decoder,
    recorded_links,
    serving_inputs,
    training_inputs,
)


@pytest.fixture(scope="module", params=["e_sd", "e_ip2p"])
def case(request: pytest.FixtureRequest) -> Case:
    return parity_case(request.param)


@pytest.fixture(scope="module")
def inputs(case: Case) -> Tensors:
    return case.inputs()


@pytest.fixture
def decoder(case: Case, inputs: Tensors, weights: Tensors) -> DiffusionDecoder:
    return recorded_decoder(case, inputs, weights)


def test_published_weights_load_strictly_and_come_back_under_every_name(
    decoder: DiffusionDecoder, weights: Tensors
) -> None:
    back = to_published(decoder)
    assert set(back) == set(weights)
    assert all(torch.equal(back[name], weights[name]) for name in weights)
    whole = to_published(decoder, prefix="sd.")
    load_published(decoder, whole | {"llm.norm.weight": torch.zeros(1)}, prefix="sd.")


def test_weights_that_do_not_fit_are_refused_by_name(decoder: DiffusionDecoder, weights: Tensors) -> None:
    wrong = dict(weights)
    wrong["llm2sd_mapper_queries"] = torch.zeros(1, 2)
    wrong["sd_unet.extra"] = torch.zeros(1)
    del wrong["emb_proj.0.bias"]
    with pytest.raises(ModelError, match=r"missing \['emb_proj.0.bias'\].*sd_unet.extra.*\(1, 2\), not"):
        load_published(decoder, wrong)


def test_links_give_the_recorded_conditioning(case: Case, decoder: DiffusionDecoder, inputs: Tensors) -> None:
    expected = case.expected()
    links = recorded_links(case, inputs)
    assert torch.equal(links.embeddings[:, 0], expected["train.mid.connector_in"])
    assert_embedding(decoder.mapper.projection(links.embeddings[:, 0]), expected["train.mid.emb_proj"])
    serving = serving_inputs(case, decoder, inputs)
    for mode in (torch.enable_grad, torch.inference_mode):  # layers have a faster way without gradients
        with mode():
            assert_embedding(decoder.condition(links, serving), expected["infer.conditioning"])


def test_pictures_have_the_recorded_latents(case: Case, decoder: DiffusionDecoder, inputs: Tensors) -> None:
    expected = case.expected()
    spread = decoder.vae.encode(inputs["output_images"], return_dict=False)[0]
    assert_embedding(spread.mean, expected["mid.vae_mean"])
    assert_embedding(spread.std, expected["mid.vae_std"])


def test_training_has_the_recorded_values_on_its_way(
    case: Case, decoder: DiffusionDecoder, inputs: Tensors
) -> None:
    mid = under(case.expected(), "train.mid.")
    prepared, draws = training_inputs(case, decoder, inputs)
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    decoder.unet.register_forward_pre_hook(
        lambda _, given, named: seen.append((given[0], given[1], named["encoder_hidden_states"])),
        with_kwargs=True,
    )
    outputs = decoder.train()(recorded_links(case, inputs), prepared)
    assert draws.exhausted()
    ((latents, times, conditioning),) = seen
    assert_embedding(outputs.conditioning, mid["conditioning"])
    assert_embedding(latents, mid["unet_in_latents"])
    assert torch.equal(times, mid["unet_in_timesteps"])
    assert_embedding(conditioning, mid["unet_in_conditioning"])
    assert outputs.denoised is not None
    assert_close(outputs.denoised.predicted, mid["unet_out"])
    assert prepared.captions is not None
    assert_embedding(decoder.encode_captions(prepared.captions), mid["caption_features"])


def test_losses_and_gradients_are_the_recorded_ones(
    case: Case, decoder: DiffusionDecoder, inputs: Tensors
) -> None:
    expected = case.expected()
    prepared, _ = training_inputs(case, decoder, inputs)
    outputs = decoder.train()(recorded_links(case, inputs), prepared)
    terms = decoder.loss(outputs, prepared, count=decoder.count(prepared))
    assert decoder.weights["loss_caption"] == pytest.approx(case.meta["caption_loss_weight"])
    assert_loss(terms["loss_noise"], expected["train.image_loss"])
    assert_loss(terms["loss_caption"], expected["train.caption_loss"])
    total = torch.stack([decoder.weights[name] * term for name, term in terms.items()]).sum()
    assert_loss(total, expected["train.loss"])
    total.backward()
    norms = {
        published_name(name): None if parameter.grad is None else float(parameter.grad.norm())
        for name, parameter in decoder.named_parameters()
    }
    check_gradients(norms, case.meta["grad_norms"])


def test_without_captions_only_the_noise_is_learned(
    case: Case, decoder: DiffusionDecoder, inputs: Tensors
) -> None:
    expected = case.expected()
    prepared, _ = training_inputs(case, decoder, inputs, captions=False)
    outputs = decoder.train()(recorded_links(case, inputs), prepared)
    terms = decoder.loss(outputs, prepared, count=decoder.count(prepared))
    assert_loss(terms["loss_noise"], expected["train_nocaption.image_loss"])
    total = torch.stack([decoder.weights[name] * term for name, term in terms.items()]).sum()
    assert_loss(total, expected["train_nocaption.loss"])


def test_the_whole_run_makes_the_recorded_pictures(
    case: Case, decoder: DiffusionDecoder, inputs: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = give_recorded_noise(monkeypatch, decoder, inputs)
    with torch.inference_mode():
        outputs = decoder(recorded_links(case, inputs), serving_inputs(case, decoder, inputs))
    assert draws.exhausted()
    made = torch.cat(outputs.pictures).mul(0.5).add(0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert_embedding(made, case.expected()["run.images"])
