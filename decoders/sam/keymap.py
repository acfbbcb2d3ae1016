"""Weights of published checkpoints under their own names, strictly, both ways.

Two layouts: that of the first release (`sam_vit_*.pth`) and that of transformers. The second
differs from ours only in a prefix and in storing the frequencies of the position encoding twice.
Neither has the layers that project links: those keep the weights they have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from superlink.decoders.sam.config import SamConfig
from superlink.decoders.sam.decoder import SamDecoder
from superlink.decoders.strict import load_exactly
from superlink.router.errors import ModelError

StateDict = Mapping[str, Tensor]

_MODEL = "model."
_FREQUENCIES = "prompt_encoder.shared_embedding.positional_embedding"
_FREQUENCIES_AGAIN = "shared_image_embedding.positional_embedding"

# (first release, transformers).
_RENAMES: tuple[tuple[str, str], ...] = (
    ("image_encoder.patch_embed.proj.", "vision_encoder.patch_embed.projection."),
    ("image_encoder.neck.0.", "vision_encoder.neck.conv1."),
    ("image_encoder.neck.1.", "vision_encoder.neck.layer_norm1."),
    ("image_encoder.neck.2.", "vision_encoder.neck.conv2."),
    ("image_encoder.neck.3.", "vision_encoder.neck.layer_norm2."),
    ("image_encoder.blocks.", "vision_encoder.layers."),
    ("image_encoder.pos_embed", "vision_encoder.pos_embed"),
    ("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", _FREQUENCIES),
    ("prompt_encoder.point_embeddings.", "prompt_encoder.point_embed."),
    ("prompt_encoder.mask_downscaling.0.", "prompt_encoder.mask_embed.conv1."),
    ("prompt_encoder.mask_downscaling.1.", "prompt_encoder.mask_embed.layer_norm1."),
    ("prompt_encoder.mask_downscaling.3.", "prompt_encoder.mask_embed.conv2."),
    ("prompt_encoder.mask_downscaling.4.", "prompt_encoder.mask_embed.layer_norm2."),
    ("prompt_encoder.mask_downscaling.6.", "prompt_encoder.mask_embed.conv3."),
    ("mask_decoder.transformer.norm_final_attn.", "mask_decoder.transformer.layer_norm_final_attn."),
    ("mask_decoder.output_upscaling.0.", "mask_decoder.upscale_conv1."),
    ("mask_decoder.output_upscaling.1.", "mask_decoder.upscale_layer_norm."),
    ("mask_decoder.output_upscaling.3.", "mask_decoder.upscale_conv2."),
)
_NORM = re.compile(r"(vision_encoder\.layers\.\d+|mask_decoder\.transformer\.layers\.\d+)\.norm(\d)\.(.*)")
_OWN_NORM = re.compile(_NORM.pattern.replace(r"\.norm(", r"\.layer_norm("))
_HEADS = r"(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))"
_HEAD = re.compile(_HEADS + r"\.layers\.(\d+)\.(.*)")
_OWN_HEAD = re.compile(_HEADS + r"\.(proj_in|proj_out|layers\.\d+)\.(.*)")
_HYPERNETWORK_LAYERS = 3


def rename(name: str, config: SamConfig) -> str:
    """One name of the first release to that of transformers; an unknown name stays."""
    for published, ours in _RENAMES:
        if name.startswith(published):
            name = ours + name.removeprefix(published)
            break
    if match := _NORM.fullmatch(name):
        return f"{match[1]}.layer_norm{match[2]}.{match[3]}"
    if match := _HEAD.fullmatch(name):
        place, last = int(match[2]), _head_layers(match[1], config) - 1
        if place > last:
            return name
        part = {0: "proj_in", last: "proj_out"}.get(place, f"layers.{place - 1}")
        return f"{match[1]}.{part}.{match[3]}"
    return name


def rename_back(name: str, config: SamConfig) -> str:
    """One name of transformers to that of the first release."""
    if match := _OWN_NORM.fullmatch(name):
        name = f"{match[1]}.norm{match[2]}.{match[3]}"
    elif match := _OWN_HEAD.fullmatch(name):
        ends = {"proj_in": 0, "proj_out": _head_layers(match[1], config) - 1}
        place = ends[match[2]] if match[2] in ends else int(match[2].removeprefix("layers.")) + 1
        return f"{match[1]}.layers.{place}.{match[3]}"
    for published, ours in _RENAMES:
        if name.startswith(ours):
            return published + name.removeprefix(ours)
    return name


def _head_layers(head: str, config: SamConfig) -> int:
    return config.iou_layers if head.endswith("iou_prediction_head") else _HYPERNETWORK_LAYERS


def is_original(state: StateDict) -> bool:
    """Whether the names are those of the first release."""
    return any(name.startswith("image_encoder.") for name in state)


def load_original(decoder: SamDecoder, state: StateDict) -> None:
    """Load a state dict under the names of the first release.

    Raises:
        ModelError: entries are missing, unknown or of another shape.
    """
    load_exactly(
        decoder.model,
        {rename(name, decoder.config): tensor for name, tensor in state.items()},
        decoder.config.name,
    )


def to_original(decoder: SamDecoder) -> dict[str, Tensor]:
    """The decoder's weights under the names of the first release, without those that project links."""
    return {rename_back(name, decoder.config): tensor for name, tensor in decoder.model.state_dict().items()}


def load_transformers(decoder: SamDecoder, state: StateDict) -> None:
    """Load a state dict of transformers' `SamModel`; either copy of the frequencies is enough.

    Raises:
        ModelError: entries are missing, unknown or of another shape, or the two copies differ.
    """
    own = dict(state)
    again = own.pop(_FREQUENCIES_AGAIN, None)
    if again is not None and not torch.equal(own.setdefault(_FREQUENCIES, again), again):
        raise ModelError(f"{_FREQUENCIES_AGAIN} differs from its copy {_FREQUENCIES}")
    load_exactly(decoder.model, own, decoder.config.name)


def to_transformers(decoder: SamDecoder) -> dict[str, Tensor]:
    """The decoder's weights as `SamModel` names them, both copies of the frequencies included."""
    own = dict(decoder.model.state_dict())
    return own | {_FREQUENCIES_AGAIN: own[_FREQUENCIES]}


def config_from_weights(state: StateDict, *, decoder_heads: int = 8) -> SamConfig:
    """The sizes of a checkpoint of the first release, read from its shapes.

    Args:
        decoder_heads: of the mask decoder; shapes do not tell, every published one has eight.

    Raises:
        ModelError: a tensor that tells a size is missing.
    """
    try:
        return _config_from_shapes(
            {name: tuple(tensor.shape) for name, tensor in state.items()}, decoder_heads
        )
    except (KeyError, ValueError, IndexError) as error:
        raise ModelError(f"this is no checkpoint of Segment Anything: no fitting {error}") from error


def _config_from_shapes(shapes: Mapping[str, tuple[int, ...]], decoder_heads: int) -> SamConfig:
    width, _, patch, _ = shapes["image_encoder.patch_embed.proj.weight"]
    _, grid, _, _ = shapes["image_encoder.pos_embed"]
    layers = _count(shapes, r"image_encoder\.blocks\.(\d+)\..*")
    reach = [shapes[f"image_encoder.blocks.{layer}.attn.rel_pos_h"] for layer in range(layers)]
    whole = 2 * grid - 1
    windows = sorted({length for length, _ in reach if length != whole})
    cross = "mask_decoder.transformer.final_attn_token_to_image.q_proj.weight"
    narrow, d_model = shapes[cross]
    decoder_layer = "mask_decoder.transformer.layers.0.mlp.lin1.weight"
    return SamConfig(
        image_size=grid * patch,
        patch_size=patch,
        vision_width=width,
        vision_layers=layers,
        vision_heads=width // reach[0][1],
        vision_ffn_dim=shapes["image_encoder.blocks.0.mlp.lin1.weight"][0],
        window=(windows[0] + 1) // 2 if windows else grid,
        global_layers=tuple(layer for layer, (length, _) in enumerate(reach) if length == whole),
        d_model=d_model,
        mask_channels=shapes["prompt_encoder.mask_downscaling.3.weight"][0],
        decoder_layers=_count(shapes, r"mask_decoder\.transformer\.layers\.(\d+)\..*"),
        decoder_heads=decoder_heads,
        decoder_ffn_dim=shapes[decoder_layer][0],
        attention_downsample=d_model // narrow,
        num_multimask=shapes["mask_decoder.mask_tokens.weight"][0] - 1,
        iou_layers=_count(shapes, r"mask_decoder\.iou_prediction_head\.layers\.(\d+)\..*"),
        iou_hidden=shapes["mask_decoder.iou_prediction_head.layers.0.weight"][0],
    )


def _count(shapes: Mapping[str, Any], pattern: str) -> int:
    numbers = [int(match[1]) for name in shapes if (match := re.fullmatch(pattern, name))]
    return max(numbers) + 1


def config_from_transformers(data: Mapping[str, Any]) -> SamConfig:
    """The `config.json` of a folder that transformers' `SamModel` wrote; serving options keep their defaults.

    Raises:
        ModelError: an option that Segment Anything has in only one setting has another.
    """
    from transformers import SamConfig as LayerConfig

    if data.get("model_type") != "sam":
        raise ModelError(f"expected a config.json of model_type 'sam', got {data.get('model_type')!r}")
    whole: Any = LayerConfig.from_dict(dict(data))
    vision, prompt, decoder = whole.vision_config, whole.prompt_encoder_config, whole.mask_decoder_config
    for found, name, only in (
        (vision, "hidden_act", "gelu"),
        (vision, "qkv_bias", True),
        (vision, "use_abs_pos", True),
        (vision, "use_rel_pos", True),
        (vision, "num_channels", 3),
        (prompt, "hidden_act", "gelu"),
        (prompt, "layer_norm_eps", 1e-6),
        (decoder, "hidden_act", "relu"),
    ):
        if getattr(found, name) != only:
            raise ModelError(f"config.json has {name}={getattr(found, name)!r}; only {only!r} is supported")
    return SamConfig(
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        vision_width=vision.hidden_size,
        vision_layers=vision.num_hidden_layers,
        vision_heads=vision.num_attention_heads,
        vision_ffn_dim=vision.mlp_dim,
        vision_norm_eps=vision.layer_norm_eps,
        window=vision.window_size,
        global_layers=tuple(vision.global_attn_indexes),
        d_model=decoder.hidden_size,
        mask_channels=prompt.mask_input_channels,
        decoder_layers=decoder.num_hidden_layers,
        decoder_heads=decoder.num_attention_heads,
        decoder_ffn_dim=decoder.mlp_dim,
        decoder_norm_eps=decoder.layer_norm_eps,
        attention_downsample=decoder.attention_downsample_rate,
        num_multimask=decoder.num_multimask_outputs,
        iou_layers=decoder.iou_head_depth,
        iou_hidden=decoder.iou_head_hidden_dim,
    )
