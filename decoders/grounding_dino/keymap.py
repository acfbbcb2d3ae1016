"""Weights of the published detector under its own names, strictly, both ways.

The published state dict differs in three ways: some attentions keep query, key and value in one
fused matrix; heads that layers share are stored once for every layer; backbone parts have the
names of an older transformers. Every entry of either side is accounted for or an error says which is not.

A checkpoint of another origin (the detector's first release, with a text model inside) needs
another list of renamings of the same kind and the same three steps: `rename`, split, `alias`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from superlink.decoders.grounding_dino.config import (
    GroundingDinoConfig,
    LossWeights,
    MatchCosts,
    perception_routes,
)
from superlink.decoders.grounding_dino.decoder import GroundingDinoDecoder
from superlink.decoders.strict import load_exactly
from superlink.router.errors import ModelError

StateDict = Mapping[str, Tensor]

# (published, ours).
_RENAMES: tuple[tuple[str, str], ...] = (
    ("model.backbone.conv_encoder.model.", "model.pyramid.backbone."),
    ("model.input_proj_vision.", "model.pyramid.input_proj_vision."),
    ("model.level_embed", "model.pyramid.level_embed"),
    ("model.lateral_convs.0.", "model.mask_branch.lateral."),
    ("model.output_convs.0.", "model.mask_branch.output."),
    ("model.mask_features.", "model.mask_branch.project."),
)
_SWIN_RENAMES: tuple[tuple[str, str], ...] = (
    ("backbone.embeddings.", "backbone.swin.embeddings."),
    ("backbone.encoder.", "backbone.swin.encoder."),
    (".attention.self.query.", ".attention.q_proj."),
    (".attention.self.key.", ".attention.k_proj."),
    (".attention.self.value.", ".attention.v_proj."),
    (
        ".attention.self.relative_position_bias_table",
        ".attention.relative_position_bias.relative_position_bias_table",
    ),
    (".attention.output.dense.", ".attention.o_proj."),
    (".intermediate.dense.", ".mlp.fc1."),
    (".output.dense.", ".mlp.fc2."),
)
_POSITION_INDEX = ".attention.self.relative_position_index"
_FUSED = re.compile(r"(.*\.(?:self_attn|encoder_attn_text))\.in_proj_(weight|bias)")
_SPLIT = re.compile(r"(.*\.(?:self_attn|encoder_attn_text))\.(query|key|value)\.(weight|bias)")
_PARTS = ("query", "key", "value")


def config_from_published(data: Mapping[str, Any], *, num_links: int | None = None) -> GroundingDinoConfig:
    """The published `gdino_config` as ours; serving options keep their defaults.

    Raises:
        ModelError: an option that the published system has in only one setting has another.
    """
    for name, only in (
        ("position_embedding_type", "sine"),
        ("two_stage", True),
        ("embedding_init_target", True),
        ("query_dim", 4),
        ("decoder_bbox_embed_share", True),
        ("two_stage_bbox_embed_share", False),
        ("norm", "GN"),
        ("auxiliary_loss", True),
        ("attention_dropout", 0.0),
        ("activation_dropout", 0.0),
        ("text_enhancer_dropout", 0.0),
        ("fusion_dropout", 0.0),
    ):
        if data.get(name, only) != only:
            raise ModelError(f"gdino_config has {name}={data[name]!r}; only {only!r} is supported")
    backbone = data["backbone_config"]
    return GroundingDinoConfig(
        routes=perception_routes(num_links or data.get("num_embs", 4)),
        backbone=_backbone_options(backbone),
        d_model=data["d_model"],
        num_queries=data["num_queries"],
        num_feature_levels=data["num_feature_levels"],
        encoder_layers=data["encoder_layers"],
        encoder_heads=data["encoder_attention_heads"],
        encoder_ffn_dim=data["encoder_ffn_dim"],
        encoder_points=data["encoder_n_points"],
        decoder_layers=data["decoder_layers"],
        decoder_heads=data["decoder_attention_heads"],
        decoder_ffn_dim=data["decoder_ffn_dim"],
        decoder_points=data["decoder_n_points"],
        activation=data["activation_function"],
        dropout=data["dropout"],
        fusion_droppath=data["fusion_droppath"],
        layer_norm_eps=data.get("layer_norm_eps", 1e-5),
        temperature=data["positional_embedding_temperature"],
        mask_dim=data["mask_dim"],
        costs=MatchCosts(ce=data["class_cost"], bbox=data["bbox_cost"], giou=data["giou_cost"]),
        weights=LossWeights(
            ce=data["class_weight"],
            bbox=data["box_weight"],
            giou=data["giou_weight"],
            mask=data["mask_weight"],
            dice=data["dice_weight"],
        ),
        focal_alpha=data["focal_alpha"],
        dn_hide_padding=False,
        empty_batches=False,
        mask_margin=None,
        merge_iou=None,
    )


_SWIN_OPTIONS = [
    "model_type",
    "image_size",
    "patch_size",
    "num_channels",
    "embed_dim",
    "depths",
    "num_heads",
    "window_size",
    "mlp_ratio",
    "qkv_bias",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "drop_path_rate",
    "hidden_act",
    "use_absolute_embeddings",
    "layer_norm_eps",
    "out_features",
]


def _backbone_options(data: Mapping[str, Any]) -> dict[str, Any]:
    """The options that describe the backbone, without what old versions stored beside them."""
    if data["model_type"] != "swin":
        raise ModelError(f"the published detector has a swin backbone, not {data['model_type']!r}")
    return {name: data[name] for name in _SWIN_OPTIONS if name in data}


def load_published(decoder: GroundingDinoDecoder, state: StateDict, *, prefix: str = "") -> None:
    """Load a published state dict.

    Args:
        state: entries that do not start with `prefix` are someone else's and are ignored.
        prefix: "gdino." inside a whole checkpoint.

    Raises:
        ModelError: entries are missing, unknown or of another shape, or copies of a shared head differ.
    """
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    load_exactly(decoder, from_published(own, decoder), decoder.config.name)


def from_published(state: StateDict, decoder: GroundingDinoDecoder) -> dict[str, Tensor]:
    """Published names to ours; anything that no rule touches keeps its name."""
    indices = _position_indices(decoder)
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith(_POSITION_INDEX):
            # Computed from the window size, not learned.
            if name not in indices or not torch.equal(tensor.cpu(), indices[name].cpu()):
                raise ModelError(f"{name} is not that of the configured window size")
            continue
        for ours, part in _split(name, tensor).items():
            own = unalias(rename(ours), decoder.config)
            if own in found and not torch.equal(found[own], part):
                raise ModelError(f"{name} is one of the copies of a shared head, but differs from the others")
            found[own] = part
    return found


def to_published(decoder: GroundingDinoDecoder, *, prefix: str = "") -> dict[str, Tensor]:
    """The decoder's weights under the published names, every copy of a shared head included.

    Raises:
        ModelError: a `class_prior`, whose weights the published system does not have.
    """
    if decoder.config.class_prior is not None:
        raise ModelError(
            f"{decoder.config.name} has class_prior {decoder.config.class_prior}; the published system has "
            f"no weights for it, and its scores are other products"
        )
    own = decoder.state_dict()
    found: dict[str, Tensor] = {}
    for name, tensor in own.items():
        match = _SPLIT.fullmatch(name)
        if match and name.startswith(("model.encoder.", "model.decoder.")):
            if match[2] == "query":
                parts = [own[f"{match[1]}.{part}.{match[3]}"] for part in _PARTS]
                found[rename_back(f"{match[1]}.in_proj_{match[3]}")] = torch.cat(parts)
            continue
        for alias in aliases(rename_back(name), decoder.config):
            found[alias] = tensor
    found |= _position_indices(decoder)
    return {prefix + name: tensor for name, tensor in found.items()}


def rename(name: str) -> str:
    """One published name to ours, fused matrices and aliases aside."""
    for published, ours in _RENAMES:
        if name.startswith(published):
            name = ours + name.removeprefix(published)
            break
    if name.startswith("model.pyramid.backbone."):
        for published, ours in _SWIN_RENAMES:
            name = name.replace(published, ours)
    return name


def rename_back(name: str) -> str:
    """One of our names to the published one."""
    if name.startswith("model.pyramid.backbone."):
        for published, ours in reversed(_SWIN_RENAMES):
            name = name.replace(ours, published)
    for published, ours in _RENAMES:
        if name.startswith(ours):
            return published + name.removeprefix(ours)
    return name


def aliases(name: str, config: GroundingDinoConfig) -> list[str]:
    """Every published name of a weight: heads that the decoder layers share are stored once a layer."""
    head, _, rest = name.partition(".")
    layers = range(config.decoder_layers)
    if head == "bbox_embed":
        return [
            f"{where}.{layer}.{rest}"
            for where in ("bbox_embed", "model.decoder.bbox_embed")
            for layer in layers
        ]
    if head == "mask_embed":
        return [f"mask_embed.{layer}.{rest}" for layer in layers]
    return [name]


_ALIAS = re.compile(r"(?:model\.decoder\.)?(bbox_embed|mask_embed)\.(\d+)\.(layers\..*)")


def unalias(name: str, config: GroundingDinoConfig) -> str:
    """The one name of a shared head; a copy for a layer that does not exist keeps its name."""
    match = _ALIAS.fullmatch(name)
    if match and int(match[2]) < config.decoder_layers:
        return f"{match[1]}.{match[3]}"
    return name


def _split(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """A fused matrix to its query, key and value; anything else as it is."""
    match = _FUSED.fullmatch(name)
    if match is None or len(tensor) % 3:
        return {name: tensor}
    return {f"{match[1]}.{part}.{match[2]}": rows for part, rows in zip(_PARTS, tensor.chunk(3), strict=True)}


def _position_indices(decoder: GroundingDinoDecoder) -> dict[str, Tensor]:
    """The window indices that the published backbone stores, by published name."""
    found = {}
    for name, buffer in decoder.named_buffers():
        if name.endswith(".relative_position_index"):
            place = rename_back(name).removesuffix(
                ".attention.relative_position_bias.relative_position_index"
            )
            area = math.isqrt(buffer.numel())
            found[place + _POSITION_INDEX] = buffer.view(area, area)
    return found
