"""Standard diffusers folders: Stable Diffusion and InstructPix2Pix as `save_pretrained` writes them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from superlink.decoders.diffusion.captions import load_tokenizer, token_ids
from superlink.decoders.diffusion.config import (
    DiffusionConfig,
    InstructPix2PixConfig,
    StableDiffusionConfig,
)
from superlink.decoders.diffusion.decoder import DiffusionDecoder
from superlink.decoders.diffusion.layers import scheduler_class
from superlink.router.errors import ModelError

_KINDS: dict[str, type[StableDiffusionConfig | InstructPix2PixConfig]] = {
    "StableDiffusionPipeline": StableDiffusionConfig,
    "StableDiffusionInstructPix2PixPipeline": InstructPix2PixConfig,
}
_TEXT_OPTIONS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "projection_dim",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "hidden_act",
    "layer_norm_eps",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)


def config_from_folder(folder: str | Path, **changes: Any) -> StableDiffusionConfig | InstructPix2PixConfig:
    """The configuration that a diffusers folder describes.

    Args:
        folder: with `model_index.json`; its safety checker, if any, is not used.
        changes: fields of the configuration that should be otherwise, such as `routes`.

    Raises:
        ModelError: a part is missing, unreadable or of another kind than these decoders have.
    """
    folder = Path(folder)
    name = _read(folder / "model_index.json").get("_class_name")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ModelError(f"{str(folder)!r} holds a {name!r}; these decoders read {', '.join(sorted(_KINDS))}")
    unet = _known(UNet2DConditionModel, _read(folder / "unet" / "config.json"))
    vae = _known(AutoencoderKL, _read(folder / "vae" / "config.json"))
    text = _read(folder / "text_encoder" / "config.json")
    # The file holds what differs from the defaults of the version that wrote it.
    text = {option: getattr(CLIPTextConfig(**text), option) for option in _TEXT_OPTIONS}
    length = text["max_position_embeddings"]
    empty = token_ids(load_tokenizer(folder / "tokenizer"), [""], length)[0].tolist()
    multiple = 2 ** (len(vae["block_out_channels"]) - 1)
    side = unet["sample_size"] * multiple
    fields: dict[str, Any] = {
        "unet": unet,
        "vae": vae,
        "scheduler": _scheduler(folder, kind),
        "text_encoder": text,
        "empty_caption": tuple(empty),
        "tokenizer": str(folder.absolute() / "tokenizer"),
        "num_queries": length,
        "side": side,
        "train_side": min(kind.train_side or side, side),
        "max_side": max(kind.max_side, side),
    }
    return kind(**{**fields, **changes})


def load_folder(decoder: DiffusionDecoder, folder: str | Path) -> None:
    """Give a decoder the networks of a diffusers folder; its mapper stays as it is.

    Raises:
        ModelError: weights are missing, unreadable or do not fit the decoder's configuration.
    """
    parts: list[tuple[str, type[Any], nn.Module | None]] = [
        ("unet", UNet2DConditionModel, decoder.unet),
        ("vae", AutoencoderKL, decoder.vae),
        ("text_encoder", CLIPTextModel, decoder.text_encoder),
    ]
    for name, kind, module in parts:
        if module is None:
            continue
        place = Path(folder) / name
        try:
            found = kind.from_pretrained(str(place), local_files_only=True, use_safetensors=True)
            module.load_state_dict(found.state_dict())
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ModelError(f"{str(place)!r} does not fit {decoder.config.name}: {reason}") from error


def _scheduler(folder: Path, kind: type[DiffusionConfig]) -> dict[str, Any]:
    """The scheduler's options; the pipeline of Stable Diffusion corrects two that old folders have."""
    read = _read(folder / "scheduler" / "scheduler_config.json")
    options = _known(scheduler_class(read), read)
    if kind is StableDiffusionConfig:
        corrected = {"steps_offset": 1, "clip_sample": False}
        options |= {name: value for name, value in corrected.items() if name in options}
    return {"_class_name": read["_class_name"], **options}


def _known(kind: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """What `kind` takes: files also hold the versions and options of other times."""
    takes = inspect.signature(kind.__init__).parameters
    return {name: value for name, value in options.items() if name in takes}


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(path)!r} cannot be read ({error}); is this a diffusers folder?") from error
    if not isinstance(data, dict):
        raise ModelError(f"{str(path)!r} holds no options")
    return data
