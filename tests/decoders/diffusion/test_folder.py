"""Folders that diffusers writes are read, and give what its own pipelines give, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from superlink.decoders.diffusion.config import InstructPix2PixConfig, StableDiffusionConfig
from superlink.decoders.diffusion.folder import config_from_folder, load_folder
from superlink.router.errors import ModelError
from tests.decoders.diffusion.painters import (
    DDIM,
    EULER,
    LINK_DIM,
    SIDE,
    answers,
    byte_tokenizer,
    call_of,
    of_kind,
    picture,
    run,
    save_pipeline,
)

PNDM = {
    "_class_name": "PNDMScheduler",
    "beta_schedule": "scaled_linear",
    "skip_prk_steps": True,
    "steps_offset": 1,
    "num_train_timesteps": 100,
}
DDPM = {"_class_name": "DDPMScheduler", "num_train_timesteps": 100, "clip_sample": False, "steps_offset": 1}
MULTISTEP = {
    "_class_name": "DPMSolverMultistepScheduler",
    "num_train_timesteps": 100,
    "steps_offset": 1,
    "prediction_type": "v_prediction",
}


def text_decoder(folder: Path) -> Any:
    """A decoder with the folder's weights that reads the words of links."""
    decoder = of_kind(config_from_folder(folder), "text").build(LINK_DIM)
    load_folder(decoder, folder)
    return decoder


@pytest.mark.parametrize(
    "scheduler", [PNDM, DDIM, EULER, DDPM, MULTISTEP], ids=lambda one: str(one["_class_name"])
)
@pytest.mark.parametrize("guidance", [7.3, 1.0], ids=["guided", "unguided"])
def test_pictures_equal_those_of_the_stable_diffusion_pipeline(
    tmp_path: Path, scheduler: dict[str, Any], guidance: float
) -> None:
    pipeline = save_pipeline(tmp_path, scheduler, edits=False)
    decoder = text_decoder(tmp_path)
    options = {"steps": 3, "guidance": guidance, "height": SIDE, "width": 2 * SIDE}
    call = call_of(decoder.config, phrase="a red cat", seed=11, options=options)
    wanted = {"height": SIDE, "width": 2 * SIDE, "num_inference_steps": 3, "guidance_scale": guidance}
    exact = pipeline("a red cat", **wanted, generator=torch.Generator().manual_seed(11), output_type="pt")
    (made,) = run(decoder, [call]).pictures
    assert torch.equal(made.mul(0.5).add(0.5).clamp(0, 1), exact.images)
    shown = pipeline("a red cat", **wanted, generator=torch.Generator().manual_seed(11))
    (found,) = answers(decoder, [call])
    assert np.array_equal(found.pixels, np.asarray(shown.images[0]))


@pytest.mark.parametrize("scheduler", [EULER, PNDM], ids=lambda one: str(one["_class_name"]))
@pytest.mark.parametrize("image_guidance", [1.7, 0.5], ids=["two-way", "unguided"])
def test_edits_equal_those_of_the_instruct_pix2pix_pipeline(
    tmp_path: Path, scheduler: dict[str, Any], image_guidance: float
) -> None:
    pipeline = save_pipeline(tmp_path, scheduler, edits=True)
    decoder = text_decoder(tmp_path)
    image = picture(SIDE, 2 * SIDE)
    options = {"steps": 3, "guidance": 6.1, "image_guidance": image_guidance, "side": 2 * SIDE}
    call = call_of(decoder.config, phrase="make it red", seed=12, image=image, options=options)
    wanted = {
        "image": Image.fromarray(image),
        "num_inference_steps": 3,
        "guidance_scale": 6.1,
        "image_guidance_scale": image_guidance,
    }
    exact = pipeline("make it red", **wanted, generator=torch.Generator().manual_seed(12), output_type="pt")
    (made,) = run(decoder, [call]).pictures
    assert torch.equal(made.mul(0.5).add(0.5).clamp(0, 1), exact.images)
    shown = pipeline("make it red", **wanted, generator=torch.Generator().manual_seed(12))
    (found,) = answers(decoder, [call])
    assert np.array_equal(found.pixels, np.asarray(shown.images[0]))


def test_the_text_encoders_vectors_in_place_of_links_give_the_same_picture(tmp_path: Path) -> None:
    pipeline = save_pipeline(tmp_path, PNDM, edits=False)
    config = config_from_folder(tmp_path, steps=3)
    decoder = config.build(LINK_DIM)
    load_folder(decoder, tmp_path)
    with torch.no_grad():
        words, _ = pipeline.encode_prompt("a red cat", torch.device("cpu"), 1, False)
    (made,) = decoder.sample(words, decoder.prepare([call_of(config, seed=13)]))
    exact = pipeline(
        "a red cat",
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(13),
        output_type="pt",
    )
    assert torch.equal(made.mul(0.5).add(0.5).clamp(0, 1), exact.images)


def test_the_configuration_is_that_of_the_files(tmp_path: Path) -> None:
    save_pipeline(tmp_path / "paint", PNDM, edits=False)
    save_pipeline(tmp_path / "edit", EULER, edits=True)
    painter, editor = config_from_folder(tmp_path / "paint"), config_from_folder(tmp_path / "edit")
    assert isinstance(painter, StableDiffusionConfig)
    assert isinstance(editor, InstructPix2PixConfig)
    assert painter.side == editor.side == SIDE
    assert painter.scheduler["_class_name"] == "PNDMScheduler"
    assert editor.unet["in_channels"] == 8
    assert list(painter.empty_caption) == byte_tokenizer()("", padding="max_length")["input_ids"]
    assert type(painter).from_json(json.loads(json.dumps(painter.to_json()))) == painter
    assert config_from_folder(tmp_path / "paint", steps=7).steps == 7


def test_what_old_files_hold_beyond_todays_options_is_left_out(tmp_path: Path) -> None:
    save_pipeline(tmp_path, PNDM, edits=False)
    file = tmp_path / "scheduler" / "scheduler_config.json"
    # As in the published folder of Stable Diffusion 1.5, whose scheduler takes no `clip_sample`.
    file.write_text(json.dumps(json.loads(file.read_text()) | {"clip_sample": False}))
    assert "clip_sample" not in config_from_folder(tmp_path).scheduler


def test_outdated_schedulers_are_corrected_as_the_pipeline_corrects_them(tmp_path: Path) -> None:
    save_pipeline(tmp_path, DDIM, edits=False)
    file = tmp_path / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"clip_sample": True, "steps_offset": 0}))
    with pytest.warns(FutureWarning, match="scheduler"):
        pipeline = StableDiffusionPipeline.from_pretrained(
            str(tmp_path), safety_checker=None, requires_safety_checker=False
        )
    decoder = text_decoder(tmp_path)
    call = call_of(decoder.config, phrase="a cat", seed=3, options={"steps": 3})
    pipeline.set_progress_bar_config(disable=True)
    exact = pipeline(
        "a cat", num_inference_steps=3, generator=torch.Generator().manual_seed(3), output_type="pt"
    )
    (made,) = run(decoder, [call]).pictures
    assert torch.equal(made.mul(0.5).add(0.5).clamp(0, 1), exact.images)


def test_a_folder_of_something_else_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is this a diffusers folder"):
        config_from_folder(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ModelError, match="FluxPipeline"):
        config_from_folder(tmp_path)


def test_missing_or_unfitting_weights_are_refused_by_name(tmp_path: Path) -> None:
    save_pipeline(tmp_path, PNDM, edits=False)
    config = config_from_folder(tmp_path)
    other = config_from_folder(tmp_path, unet={**config.unet, "block_out_channels": [16, 16]})
    with pytest.raises(ModelError, match=r"unet.*size mismatch"):
        load_folder(other.build(LINK_DIM), tmp_path)
    (tmp_path / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match="vae"):
        load_folder(config.build(LINK_DIM), tmp_path)
