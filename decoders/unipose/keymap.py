"""Weights of the published UniPose under its own names, strictly, both ways.

The published state dict differs in three ways: query, key and value of some attentions are one fused
matrix; heads that layers share are stored once for every layer, and once more inside the decoder; the
sizes of the first keypoints, which the 17 of COCO came with, are apart from those of the others.

Files of X-Pose itself have the same names, but no layers that project links: where these are, they have a
text side (`XPOSE_TEXT`). Two vectors of every fusion layer have another name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from superlink.decoders.strict import misfit
from superlink.decoders.unipose.config import UniPoseConfig
from superlink.decoders.unipose.decoder import UniPoseDecoder
from superlink.router.errors import ModelError

StateDict = Mapping[str, Tensor]

_SWIN, _SWIN_OWN = (
    "backbone.0.layers.{}.blocks.{}.",
    "model.base.pyramid.backbone.swin.encoder.layers.{}.blocks.{}.",
)
_ENCODER, _DECODER = "model.base.encoder.layers.{}.", "model.base.decoder.layers.{}."
_QKV = ("query", "key", "value")

# (published, ours); {} is a number, or the rest of a name where it stands last. Several of ours: their
# rows follow each other in the published tensor.
_NAMES: tuple[tuple[str, str | tuple[str, ...]], ...] = (
    (
        "backbone.0.patch_embed.proj.{}",
        "model.base.pyramid.backbone.swin.embeddings.patch_embeddings.projection.{}",
    ),
    ("backbone.0.patch_embed.norm.{}", "model.base.pyramid.backbone.swin.embeddings.norm.{}"),
    (_SWIN + "norm1.{}", _SWIN_OWN + "layernorm_before.{}"),
    (_SWIN + "norm2.{}", _SWIN_OWN + "layernorm_after.{}"),
    (
        _SWIN + "attn.relative_position_bias_table",
        _SWIN_OWN + "attention.relative_position_bias.relative_position_bias_table",
    ),
    (_SWIN + "attn.qkv.{}", tuple(f"{_SWIN_OWN}attention.{part}_proj.{{}}" for part in "qkv")),
    (_SWIN + "attn.proj.{}", _SWIN_OWN + "attention.o_proj.{}"),
    (_SWIN + "mlp.{}", _SWIN_OWN + "mlp.{}"),
    (
        "backbone.0.layers.{}.downsample.{}",
        "model.base.pyramid.backbone.swin.encoder.layers.{}.downsample.{}",
    ),
    *(
        (
            f"backbone.0.norm{stage}.{{}}",
            f"model.base.pyramid.backbone.hidden_states_norms.stage{stage + 1}.{{}}",
        )
        for stage in range(4)
    ),
    ("input_proj.{}.{}", "model.base.pyramid.input_proj_vision.{}.{}"),
    ("transformer.level_embed", "model.base.pyramid.level_embed"),
    ("projection_llava.{}", "patch2query.{}"),
    ("projection_kpt_llava.{}", "patch2keypoint.{}"),
    ("transformer.tgt_embed.weight", "model.base.query_position_embeddings.weight"),
    ("transformer.enc_output.{}", "model.base.enc_output.{}"),
    ("transformer.enc_output_norm.{}", "model.base.enc_output_norm.{}"),
    ("transformer.enc_out_bbox_embed.{}", "model.base.encoder_output_bbox_embed.{}"),
    ("transformer.encoder.layers.{}.self_attn.{}", _ENCODER + "deformable_layer.self_attn.{}"),
    ("transformer.encoder.layers.{}.norm1.{}", _ENCODER + "deformable_layer.self_attn_layer_norm.{}"),
    ("transformer.encoder.layers.{}.linear1.{}", _ENCODER + "deformable_layer.fc1.{}"),
    ("transformer.encoder.layers.{}.linear2.{}", _ENCODER + "deformable_layer.fc2.{}"),
    ("transformer.encoder.layers.{}.norm2.{}", _ENCODER + "deformable_layer.final_layer_norm.{}"),
    (
        "transformer.encoder.text_layers.{}.self_attn.in_proj_{}",
        tuple(f"{_ENCODER}text_enhancer_layer.self_attn.{part}.{{}}" for part in _QKV),
    ),
    (
        "transformer.encoder.text_layers.{}.self_attn.out_proj.{}",
        _ENCODER + "text_enhancer_layer.self_attn.out_proj.{}",
    ),
    ("transformer.encoder.text_layers.{}.norm1.{}", _ENCODER + "text_enhancer_layer.layer_norm_before.{}"),
    ("transformer.encoder.text_layers.{}.linear1.{}", _ENCODER + "text_enhancer_layer.fc1.{}"),
    ("transformer.encoder.text_layers.{}.linear2.{}", _ENCODER + "text_enhancer_layer.fc2.{}"),
    ("transformer.encoder.text_layers.{}.norm2.{}", _ENCODER + "text_enhancer_layer.layer_norm_after.{}"),
    ("transformer.encoder.fusion_layers.{}.layer_norm_v.{}", _ENCODER + "fusion_layer.layer_norm_vision.{}"),
    ("transformer.encoder.fusion_layers.{}.layer_norm_l.{}", _ENCODER + "fusion_layer.layer_norm_text.{}"),
    ("transformer.encoder.fusion_layers.{}.attn.v_proj.{}", _ENCODER + "fusion_layer.attn.vision_proj.{}"),
    ("transformer.encoder.fusion_layers.{}.attn.l_proj.{}", _ENCODER + "fusion_layer.attn.text_proj.{}"),
    (
        "transformer.encoder.fusion_layers.{}.attn.values_v_proj.{}",
        _ENCODER + "fusion_layer.attn.values_vision_proj.{}",
    ),
    (
        "transformer.encoder.fusion_layers.{}.attn.values_l_proj.{}",
        _ENCODER + "fusion_layer.attn.values_text_proj.{}",
    ),
    (
        "transformer.encoder.fusion_layers.{}.attn.out_v_proj.{}",
        _ENCODER + "fusion_layer.attn.out_vision_proj.{}",
    ),
    (
        "transformer.encoder.fusion_layers.{}.attn.out_l_proj.{}",
        _ENCODER + "fusion_layer.attn.out_text_proj.{}",
    ),
    ("transformer.encoder.fusion_layers.{}.gam_v", _ENCODER + "fusion_layer.vision_param"),
    ("transformer.encoder.fusion_layers.{}.gam_l", _ENCODER + "fusion_layer.text_param"),
    (
        "transformer.decoder.layers.{}.self_attn.in_proj_{}",
        tuple(f"{_DECODER}self_attn.{part}.{{}}" for part in _QKV),
    ),
    ("transformer.decoder.layers.{}.self_attn.out_proj.{}", _DECODER + "self_attn.out_proj.{}"),
    ("transformer.decoder.layers.{}.norm2.{}", _DECODER + "self_attn_layer_norm.{}"),
    (
        "transformer.decoder.layers.{}.ca_text.in_proj_{}",
        tuple(f"{_DECODER}encoder_attn_text.{part}.{{}}" for part in _QKV),
    ),
    ("transformer.decoder.layers.{}.ca_text.out_proj.{}", _DECODER + "encoder_attn_text.out_proj.{}"),
    ("transformer.decoder.layers.{}.catext_norm.{}", _DECODER + "encoder_attn_text_layer_norm.{}"),
    ("transformer.decoder.layers.{}.cross_attn.{}", _DECODER + "encoder_attn.{}"),
    ("transformer.decoder.layers.{}.norm1.{}", _DECODER + "encoder_attn_layer_norm.{}"),
    ("transformer.decoder.layers.{}.linear1.{}", _DECODER + "fc1.{}"),
    ("transformer.decoder.layers.{}.linear2.{}", _DECODER + "fc2.{}"),
    ("transformer.decoder.layers.{}.norm3.{}", _DECODER + "final_layer_norm.{}"),
    ("transformer.decoder.norm.{}", "model.base.decoder.layer_norm.{}"),
    ("transformer.decoder.ref_point_head.{}", "model.base.decoder.reference_points_head.{}"),
)
_HEADS = ("bbox_embed", "pose_embed", "pose_hw_embed")
_SIZES = ("transformer.decoder.hw.weight", "transformer.decoder.hw_append.weight")
_SIZES_OWN = ("model.keypoint_sizes.0", "model.keypoint_sizes.1")
_INDEX = "attention.relative_position_bias.relative_position_index"
_PROJECTIONS = ("patch2query.", "patch2keypoint.")
_XPOSE_SCALES = (".gamma_", ".gam_")  # X-Pose's own name; VisionLLM v2 had to change it
# What X-Pose has in place of links: CLIP, the projections of its vectors for objects and for keypoints, and
# three parts that its forward pass only multiplies by zero.
# Source: `UniPose` in models/UniPose/unipose.py of IDEA-Research/X-Pose.
XPOSE_TEXT = ("clip_model.", "projection.", "projection_kpt.", "label_enc.", "pos_proj.", "padding.")


def load_published(decoder: UniPoseDecoder, state: StateDict, *, prefix: str = "") -> None:
    """Load a published state dict.

    Args:
        state: entries that do not start with `prefix` are someone else's and are ignored.
        prefix: "unipose." inside a whole checkpoint.

    Raises:
        ModelError: entries are missing, unknown or of another shape, or copies of a shared head differ.
    """
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    own = {name.replace(*_XPOSE_SCALES): tensor for name, tensor in own.items()}
    decoder.load_state_dict(_found(decoder, own, published_names(decoder)))


def is_xpose(state: StateDict) -> bool:
    """Whether a state dict is one of X-Pose's own, with projections of CLIP's vectors instead of links."""
    return any(name.removeprefix("module.").startswith("projection_kpt.") for name in state)


def load_xpose(decoder: UniPoseDecoder, state: StateDict) -> None:
    """Load a state dict of X-Pose's own; the layers that project links keep the weights they have.

    Args:
        state: what begins with `XPOSE_TEXT` is left out; "module." before all names is that of
            distributed training.

    Raises:
        ModelError: entries are missing, unknown or of another shape, or copies of a shared head differ.
    """
    own = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    own = {name: tensor for name, tensor in own.items() if not name.startswith(XPOSE_TEXT)}
    theirs, ours = _XPOSE_SCALES
    fresh = {name: tensor for name, tensor in decoder.state_dict().items() if name.startswith(_PROJECTIONS)}
    places = {
        name.replace(ours, theirs): targets
        for name, targets in published_names(decoder).items()
        if fresh.keys().isdisjoint(targets)
    }
    decoder.load_state_dict(_found(decoder, own, places) | fresh)


def _found(
    decoder: UniPoseDecoder, own: StateDict, places: Mapping[str, tuple[str, ...]]
) -> dict[str, Tensor]:
    """Our weights in a state dict that must have exactly the names of `places`; errors as of the loaders."""
    indices = _position_indices(decoder)
    missing = sorted((set(places) | set(indices)) - set(own))
    unknown = sorted(set(own) - set(places) - set(indices))
    for name in set(indices) & set(own):
        # Computed from the window size, not learned.
        if not torch.equal(own[name].cpu(), indices[name].cpu()):
            raise ModelError(f"{name} is not that of the configured window size")
    expected, shapes = decoder.state_dict(), []
    found: dict[str, Tensor] = {}
    for name in sorted(set(places) & set(own)):
        targets = places[name]
        for target, rows in zip(targets, own[name].tensor_split(len(targets)), strict=True):
            if rows.shape != expected[target].shape:
                shapes.append(f"{name}: {tuple(rows.shape)}, not {tuple(expected[target].shape)}")
            elif target in found and not torch.equal(found[target], rows):
                raise ModelError(f"{name} is one of the copies of a shared head, but differs from the others")
            found[target] = rows
    if missing or unknown or shapes:
        raise misfit(decoder.config.name, missing, unknown, shapes)
    return found


def to_published(decoder: UniPoseDecoder, *, prefix: str = "") -> dict[str, Tensor]:
    """The decoder's weights under the published names, every copy of a shared head included."""
    own = decoder.state_dict()
    found = {
        name: torch.cat([own[part] for part in parts]) for name, parts in published_names(decoder).items()
    }
    found |= _position_indices(decoder)
    return {prefix + name: tensor for name, tensor in found.items()}


def published_names(decoder: UniPoseDecoder) -> dict[str, tuple[str, ...]]:
    """Every published name, with our weights whose rows it holds one after the other.

    Raises:
        ModelError: a weight that the published system does not have.
    """
    found: dict[str, dict[int, str]] = {}
    for own in decoder.state_dict():
        for published, part in _places(own, decoder.config):
            found.setdefault(published, {})[part] = own
    return {name: tuple(parts[part] for part in sorted(parts)) for name, parts in found.items()}


def _places(own: str, config: UniPoseConfig) -> list[tuple[str, int]]:
    """The published names of one of our weights, each with its place among the rows."""
    head, _, rest = own.removeprefix("model.").partition(".")
    if own.startswith("model.") and head in _HEADS:
        late = config.detector.decoder_layers - config.box_layers
        copies = {"bbox_embed": config.detector.decoder_layers, "pose_embed": late + 1, "pose_hw_embed": late}
        return [
            (f"{where}{head}.{layer}.{rest}", 0)
            for where in ("", "transformer.decoder.")
            for layer in range(copies[head])
        ]
    if own in _SIZES_OWN:
        return [(_SIZES[_SIZES_OWN.index(own)], 0)]
    for published, ours in _NAMES:
        for part, template in enumerate((ours,) if isinstance(ours, str) else ours):
            match = _pattern(template).fullmatch(own)
            if match:
                return [(published.format(*match.groups()), part)]
    raise ModelError(f"the published {config.name} has nothing like {own}; its scores are bare products")


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """A name with holes as a pattern: numbers, and the rest of a name at the end."""
    whole = re.escape(template).replace(r"\{\}", "{}")
    if whole.endswith("{}"):
        whole = whole.removesuffix("{}") + "(.+)"
    return re.compile(whole.replace("{}", r"(\d+)"))


def _position_indices(decoder: UniPoseDecoder) -> dict[str, Tensor]:
    """The window indices that the published backbone stores, by published name."""
    found = {}
    for name, buffer in decoder.named_buffers():
        match = _pattern(_SWIN_OWN + _INDEX).fullmatch(name)
        if match:
            area = math.isqrt(buffer.numel())
            found[(_SWIN + "attn.relative_position_index").format(*match.groups())] = buffer.view(area, area)
    return found
