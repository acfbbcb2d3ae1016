from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from superlink.agents.worker import answer
from superlink.decoders.artifacts import Artifact, Boxes, Picture
from superlink.decoders.contract import Call, Failure, Result, Route
from superlink.decoders.diffusion.config import (
    DiffusionConfig,
    InstructPix2PixConfig,
    StableDiffusionConfig,
    pndm_scheduler,
)
from superlink.decoders.diffusion.inputs import frame_of, to_pixels, to_tensor
from superlink.decoders.diffusion.layers import build_scheduler
from superlink.decoders.testing import check_decoder
from superlink.router.errors import DataError, DecoderError, InputError, LinkError, ModelError, SuperlinkError
from superlink.router.links import LinkBatch
from tests.decoders.diffusion.painters import (
    DDIM,
    LINK_DIM,
    SIDE,
    answers,
    byte_tokenizer,
    call_of,
    of_kind,
    picture,
    run,
    small,
    small_editor,
    text_options,
)

BOTH = pytest.mark.parametrize("config", [small(), small_editor()], ids=["paint", "edit"])


def right_answer(call: Call, route: Route) -> Artifact:
    """The call's own picture in other colours."""
    assert call.image is not None
    return Picture(pixels=255 - call.image)


SAMPLES = {**DDIM, "prediction_type": "sample"}


@pytest.mark.parametrize(
    "config",
    [
        small(),
        small(scheduler={**DDIM, "prediction_type": "v_prediction"}, snr_gamma=5.0, train_unet=True),
        small_editor(),
        small_editor(train_unet=False, guidance=1.0),
        small_editor(scheduler=SAMPLES, from_source=True, keep_pixels=True, guidance=1.0),
    ],
    ids=["paint", "paint velocity", "edit", "edit unguided", "edit from its source"],
)
def test_the_contract_is_kept(config: DiffusionConfig) -> None:
    check_decoder(config, target=right_answer)


@BOTH
def test_calls_that_ask_for_other_things_share_a_batch(config: DiffusionConfig) -> None:
    side = "side" if config.needs_image else "height"
    decoder = config.build(LINK_DIM)
    wishes: list[dict[str, Any]] = [{}, {"steps": 3}, {"guidance": 1.0}, {side: 2 * SIDE}, {}]
    calls = [
        call_of(config, name=f"call {row}", seed=row, options=options) for row, options in enumerate(wishes)
    ]
    for call, one in zip(calls, answers(decoder, calls), strict=True):
        (alone,) = answers(decoder, [call])
        assert one.pixels.shape == alone.pixels.shape
        assert np.abs(one.pixels.astype(int) - alone.pixels.astype(int)).max() <= 1, call.id


@BOTH
def test_the_seed_of_a_call_decides_its_picture(config: DiffusionConfig) -> None:
    decoder = config.build(LINK_DIM)
    first, again, other = (answers(decoder, [call_of(config, seed=seed)])[0].pixels for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@BOTH
def test_links_steps_and_guidance_change_the_picture(config: DiffusionConfig) -> None:
    decoder = config.build(LINK_DIM)
    with torch.no_grad():
        decoder.get_parameter("no_words").add_(1.0)
    base = call_of(config)
    names = ["steps", "guidance", *(["image_guidance"] if config.needs_image else [])]
    others = [replace(base, options={name: 4}) for name in names]
    others.append(replace(base, links=call_of(config, name="another").links))
    plain, *rest = (one.pixels for one in answers(decoder, [base, *others]))
    assert all(not np.array_equal(plain, one) for one in rest)


def test_a_painted_picture_has_the_size_that_was_asked_for() -> None:
    decoder = small().build(LINK_DIM)
    (found,) = answers(decoder, [call_of(small(), options={"height": SIDE, "width": 2 * SIDE})])
    assert found.pixels.shape == (SIDE, 2 * SIDE, 3)
    assert found.origin.decoder == "stable_diffusion"


@pytest.mark.parametrize("size", [(1, 1), (7, 31), (5, 2000), (SIDE, SIDE)])
def test_an_edit_has_the_size_of_its_picture(size: tuple[int, int]) -> None:
    (found,) = answers(small_editor().build(LINK_DIM), [call_of(small_editor(), size=size)])
    assert found.pixels.shape == (*size, 3)
    assert found.origin.source == "picture"


def test_an_edit_goes_on_from_an_earlier_picture() -> None:
    config = small_editor()
    decoder = config.build(LINK_DIM)
    earlier = Picture(pixels=picture(SIDE, 2 * SIDE, seed=5))
    call = call_of(config)
    (found,) = answers(decoder, [replace(call, inputs=(earlier,))])
    (same,) = answers(decoder, [replace(call, image=earlier.pixels)])
    assert np.array_equal(found.pixels, same.pixels)


@given(height=st.integers(1, 5000), width=st.integers(1, 5000), multiple=st.sampled_from([2, 8]))
def test_frames_keep_proportions_as_far_as_their_cells_allow(height: int, width: int, multiple: int) -> None:
    frame = frame_of((height, width), side=64, multiple=multiple)
    assert max(frame) == 64
    assert all(side % multiple == 0 and side >= multiple for side in frame)
    scale = 64 / max(height, width)
    for found, exact in zip(frame, (height * scale, width * scale), strict=True):
        assert abs(found - exact) <= multiple / 2 or found == multiple


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), height=st.integers(1, 9), width=st.integers(1, 9))
def test_pixels_come_back_from_tensors_as_they_were(seed: int, height: int, width: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    tensor = to_tensor(pixels)
    assert tensor.shape == (1, 3, height, width)
    assert np.array_equal(to_pixels(tensor), pixels)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 8 * SIDE}, "width is a multiple of 2 pixels, at most 64, got 128"),
        ({"height": SIDE + 1}, "height is a multiple of 2"),
        ({"height": 0}, "height is a multiple of 2"),
        ({"height": 16.0}, "got 16.0"),
        ({"steps": 0}, r"steps is a whole number in 1\.\.\d+, got 0"),
        ({"steps": 101}, "got 101"),
        ({"steps": True}, "got True"),
        ({"guidance": float("nan")}, "guidance is a finite number from 0, got nan"),
        ({"guidance": float("inf")}, "got inf"),
        ({"guidance": -1.0}, "got -1.0"),
        ({"guidance": "strong"}, "guidance is a number, got 'strong'"),
        ({"image_guidance": 2.0}, "possible are steps, guidance, height, width"),
    ],
)
def test_options_that_cannot_be_used_are_refused_in_one_line(options: dict[str, object], said: str) -> None:
    decoder = small().build(LINK_DIM)
    with pytest.raises(InputError, match=said) as refused:
        decoder.prepare([call_of(small(), name="the call", options=options)])
    assert "the call" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("options", [{"side": 8 * SIDE}, {"image_guidance": float("nan")}, {"width": SIDE}])
def test_an_editor_refuses_its_own_bad_options(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="the call"):
        small_editor().build(LINK_DIM).prepare([call_of(small_editor(), name="the call", options=options)])


def test_an_edit_without_a_picture_is_refused_in_one_clear_line() -> None:
    with pytest.raises(InputError, match="'the call' has no picture to edit; give one") as refused:
        small_editor().build(LINK_DIM).prepare([call_of(small_editor(), name="the call", image=None)])
    assert "\n" not in str(refused.value)


def test_an_empty_picture_is_refused() -> None:
    empty = np.zeros((0, 4, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="at least one pixel"):
        small_editor().build(LINK_DIM).prepare([call_of(small_editor(), image=empty)])


@BOTH
def test_calls_and_links_of_somebody_else_are_refused(config: DiffusionConfig) -> None:
    decoder = config.build(LINK_DIM)
    stranger = call_of(small_editor() if not config.needs_image else small())
    with pytest.raises(DecoderError, match="answers"):
        decoder.prepare([stranger])
    call = call_of(config)
    with pytest.raises(InputError, match="2 links"):
        decoder.prepare([replace(call, links=call.links * 2)])
    wide = LinkBatch(embeddings=torch.zeros(1, 1, 3, LINK_DIM + 1), mask=torch.ones(1, 1, dtype=torch.bool))
    with pytest.raises(LinkError, match="width 16, got 17"):
        decoder(wide, decoder.prepare([call]))


def test_a_picture_that_is_not_finite_is_an_error_and_no_picture() -> None:
    decoder = small().build(LINK_DIM)
    call = call_of(small(), name="the call")
    with torch.no_grad():
        decoder.get_parameter("vae.decoder.conv_out.bias").fill_(float("nan"))
    with pytest.raises(DecoderError, match=r"'the call'.*not finite"):
        decoder.postprocess(run(decoder, [call]), decoder.prepare([call]))


@BOTH
def test_a_bad_call_does_not_take_its_neighbours_with_it(config: DiffusionConfig) -> None:
    calls = [
        call_of(config, name=f"call {row}", options={"steps": steps}) for row, steps in enumerate((2, 0))
    ]
    good, bad = answer(config.build(LINK_DIM).eval(), calls)
    assert isinstance(good, Result)
    assert isinstance(bad, Failure)
    assert bad.kind == "input"
    assert "steps" in bad.error


@BOTH
def test_weights_of_half_precision_make_pictures(config: DiffusionConfig) -> None:
    torch.manual_seed(0)
    decoder = config.build(LINK_DIM)
    (exact,) = answers(decoder, [call_of(config)])
    (found,) = answers(decoder.bfloat16(), [call_of(config)])
    assert np.abs(found.pixels.astype(float) - exact.pixels).mean() < 8


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_precision_learn_what_exact_ones_learn(
    config: DiffusionConfig, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    decoder = replace(config, drop_rate=0.3, train_unet=True, levels=2).build(LINK_DIM).train()
    calls = [call_of(config, name=f"call {row}", seed=row + 1) for row in range(3)]
    links = LinkBatch.of([call.links for call in calls])
    found = []
    for precision in (torch.float32, dtype):
        decoder.to(precision)
        inputs = decoder.prepare(calls, [Picture(pixels=picture(SIDE, SIDE))] * 3)
        loss = decoder.loss(decoder(links, inputs), inputs, count=3.0)["loss_noise"]
        assert loss.dtype == torch.float32
        loss.backward()
        learned = [p.grad for p in decoder.parameters() if p.grad is not None]
        assert learned
        assert all(bool(torch.isfinite(grad).all()) for grad in learned)
        decoder.zero_grad()
        found.append(loss.item())
    assert found[1] == pytest.approx(found[0], rel=0.05)


@BOTH
def test_training_runs_in_mixed_precision(config: DiffusionConfig) -> None:
    decoder = replace(config, drop_rate=0.3).build(LINK_DIM).train()
    calls = [call_of(config, name=f"call {row}", seed=row + 1) for row in range(3)]
    links = LinkBatch.of([call.links for call in calls])
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            inputs = decoder.prepare(calls, [Picture(pixels=picture(SIDE, SIDE))] * 3)
            loss = decoder.loss(decoder(links, inputs), inputs, count=3.0)["loss_noise"]
        assert loss.dtype == torch.float32
        found.append(loss.item())
    assert found[1] == pytest.approx(found[0], rel=0.05)


def test_words_cannot_be_read_without_a_tokenizer() -> None:
    config = of_kind(small(), "text")
    with pytest.raises(ModelError, match="tokenizer"):
        config.build(LINK_DIM).prepare([call_of(config)])


@BOTH
def test_labels_that_do_not_fit_are_refused_by_name(config: DiffusionConfig) -> None:
    decoder = config.build(LINK_DIM)
    call = call_of(config, name="the call")
    boxes = Boxes(
        xyxy=np.zeros((0, 4), np.float32),
        scores=np.zeros(0, np.float32),
        labels=np.zeros(0, np.int64),
        names=(),
        size=(SIDE, SIDE),
    )
    with pytest.raises(DataError, match="'the call' needs a Picture as its target, got Boxes"):
        decoder.prepare([call], [boxes])
    with pytest.raises(DataError, match="1 calls but 0 targets"):
        decoder.prepare([call], [])
    if config.needs_image:
        with pytest.raises(DataError, match="edits a picture of"):
            decoder.prepare([call], [Picture(pixels=picture(SIDE, SIDE + 1))])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unet": {**small().unet, "in_channels": 8}}, "8 channels in"),
        ({"mapper_heads": 3}, "multiple of mapper_heads 3"),
        ({"drop_rate": 0.6}, "drop_rate is 0.6, it must be in 0..1/2"),
        ({"scheduler": {**DDIM, "prediction_type": "flow"}}, "prediction_type is 'flow'"),
        ({"side": SIDE + 1}, "side is 17, it must be a multiple of 2"),
        ({"side": 8 * SIDE}, "at most max_side 64"),
        ({"text_encoder": text_options(), "empty_caption": (1, 2)}, "empty caption has 2 tokens"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        small(**changes)


@pytest.mark.parametrize("kind", ["EulerAncestralDiscreteScheduler", "PNDMScheduler"])
def test_a_scheduler_that_could_learn_and_never_make_a_picture_is_refused(kind: str) -> None:
    config = small(scheduler={"_class_name": kind, "prediction_type": "sample"})
    with pytest.raises(ModelError, match=f"{kind} cannot make pictures with these options"):
        config.build(LINK_DIM)


def test_as_many_steps_as_a_schedule_may_take_are_taken() -> None:
    """Stable Diffusion's own counts from one on, so that its last of 100 levels would be level 100."""
    config = small(scheduler={**pndm_scheduler(), "num_train_timesteps": 100})
    assert config.build(LINK_DIM).step_counts == (1, 99)
    assert small(scheduler={**DDIM, "steps_offset": 0}).build(LINK_DIM).step_counts == (1, 100)
    scheduler = build_scheduler(config.scheduler)
    scheduler.set_timesteps(99)
    blank = torch.zeros(1, 1, 1, 1)
    for time in scheduler.timesteps:
        blank = scheduler.step(blank, time, blank, return_dict=False)[0]
    assert torch.isfinite(blank).all()


@pytest.mark.parametrize(
    ("options", "least", "most"),
    [
        ({"_class_name": "PNDMScheduler"}, 4, 100),  # begins with Runge-Kutta steps, which need four levels
        ({"_class_name": "LCMScheduler"}, 1, 50),  # was distilled from 50 steps
        ({"_class_name": "TCDScheduler", "original_inference_steps": 20}, 1, 20),
    ],
    ids=lambda one: one["_class_name"] if isinstance(one, dict) else None,
)
def test_a_scheduler_takes_the_steps_that_it_can_and_others_are_refused(
    options: dict[str, Any], least: int, most: int
) -> None:
    config = small(scheduler={**options, "num_train_timesteps": 100}, steps=least, guidance=1.0)
    decoder = config.build(LINK_DIM).eval()
    for steps in (*range(1, 6), 19, 20, 21, 49, 50, 51, 100):
        call = call_of(config, options={"steps": steps})
        try:
            build_scheduler(config.scheduler).set_timesteps(steps)
        except ValueError:
            with pytest.raises(InputError, match=f"steps is a whole number in {least}..{most}, got {steps}"):
                decoder.prepare([call])
        else:
            assert decoder.prepare([call]).plans[0].steps == steps
    for steps in (least, most):
        (made,) = answers(decoder, [call_of(config, options={"steps": steps})])
        assert isinstance(made, Picture)


def test_a_number_of_steps_that_is_left_out_among_others_is_refused() -> None:
    """With an offset 99 steps would begin at level 100 of 0 to 99, and 100 lead beyond the end; 98 do not."""
    options = {"_class_name": "DPMSolverMultistepScheduler", "timestep_spacing": "leading", "steps_offset": 1}
    config = small(scheduler={**options, "num_train_timesteps": 100})
    decoder = config.build(LINK_DIM).eval()
    assert isinstance(answers(decoder, [call_of(config, options={"steps": 98})])[0], Picture)
    for steps in (99, 100):
        with pytest.raises(InputError, match=f"DPMSolverMultistepScheduler of .* cannot take {steps} steps"):
            decoder.prepare([call_of(config, options={"steps": steps})])


def test_a_scheduler_without_noise_levels_is_refused() -> None:
    with pytest.raises(ModelError, match="EDMEulerScheduler has no noise levels"):
        small(scheduler={"_class_name": "EDMEulerScheduler"}).build(LINK_DIM)


def test_an_editor_from_its_source_needs_a_schedule_that_predicts_pictures() -> None:
    with pytest.raises(ModelError, match="from_source takes prediction_type 'sample', got 'epsilon'"):
        small_editor(from_source=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unet": {**small().unet, "extra": 1}}, "UNet2DConditionModel.*extra"),
        ({"scheduler": {"_class_name": "AutoencoderKL"}}, "no scheduler 'AutoencoderKL'"),
        ({"scheduler": {}}, "no scheduler None"),
    ],
)
def test_options_that_the_networks_do_not_have_are_refused(changes: dict[str, Any], said: str) -> None:
    config = small(**changes)
    with pytest.raises(SuperlinkError, match=said):
        answers(config.build(LINK_DIM), [call_of(config)])


def test_unknown_fields_of_a_configuration_are_refused() -> None:
    with pytest.raises(ModelError, match="no fields"):
        type(small()).from_json({"colour": "red"})


def test_captions_are_read_as_the_tokenizer_says(tmp_path: Any) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    empty = tuple(tokenizer("", padding="max_length")["input_ids"])
    config = small(text_encoder=text_options(), empty_caption=empty, tokenizer=str(tmp_path))
    decoder = config.build(LINK_DIM)
    calls = [call_of(config, phrase=phrase) for phrase in ("a cat", "far too many letters for this", "")]
    inputs = decoder.prepare(calls, [Picture(pixels=picture(SIDE, SIDE))] * 3)
    assert inputs.captions is not None
    assert inputs.captions.shape == (3, config.num_queries)
    assert tuple(inputs.captions[2].tolist()) == empty
    assert inputs.lesson is not None
    assert inputs.lesson.captioned.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("config", "unet"), [(StableDiffusionConfig(), 859_520_964), (InstructPix2PixConfig(), 859_532_484)]
)
def test_by_default_the_networks_are_those_of_stable_diffusion_1(config: DiffusionConfig, unet: int) -> None:
    with torch.device("meta"):
        decoder = config.build(4096)
    assert decoder.text_encoder is not None
    sizes = [
        sum(one.numel() for one in part.parameters())
        for part in (decoder.unet, decoder.vae, decoder.text_encoder)
    ]
    # As published for Stable Diffusion 1.5; the editor's first layer reads four more channels.
    assert sizes == [unet, 83_653_863, 123_060_480]
    assert config.routes[0].token.num_links == 64


@pytest.mark.parametrize(
    "option", [{"shift_factor": 0.1}, {"latents_mean": [1.0] * 4}, {"latents_std": [2.0] * 4}]
)
def test_an_autoencoder_that_shifts_its_latents_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=f"{next(iter(option))}=.*only scaled"):
        small(vae={**small().vae, **option}).build(LINK_DIM)


def test_an_autoencoder_that_says_that_it_shifts_nothing_is_taken() -> None:
    options = {"shift_factor": None, "latents_mean": None, "latents_std": None}
    decoder = small(vae={**small().vae, **options}).build(LINK_DIM)
    assert {name: decoder.vae.config[name] for name in options} == options
