"""The published configuration of UniPose (`unipose_config`: X-Pose's options) as ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from superlink.decoders.grounding_dino.config import GroundingDinoConfig, LossWeights, MatchCosts
from superlink.decoders.unipose.config import PoseCosts, PoseWeights, UniPoseConfig, pose_routes
from superlink.router.errors import ModelError

# What the published system has in one setting only.
_FIXED: tuple[tuple[str, Any], ...] = (
    ("position_embedding", "sine"),
    ("unic_layers", 0),
    ("pre_norm", False),
    ("query_dim", 4),
    ("random_refpoints_xy", False),
    ("fix_refpoints_hw", -1),
    ("dec_layer_number", None),
    ("decoder_layer_noise", False),
    ("add_pos_value", False),
    ("aux_loss", True),
    ("num_patterns", 0),
    ("use_deformable_box_attn", False),
    ("add_channel_attention", False),
    ("two_stage_type", "standard"),
    ("two_stage_pat_embed", 0),
    ("two_stage_add_query_num", 0),
    ("two_stage_bbox_embed_share", False),
    ("two_stage_class_embed_share", False),
    ("two_stage_learn_wh", False),
    ("two_stage_keep_all_tokens", False),
    ("decoder_sa_type", "sa"),
    ("dec_pred_bbox_embed_share", True),
    ("dec_pred_class_embed_share", True),
    ("embed_init_tgt", True),
    ("use_detached_boxes_dec_out", False),
    ("use_text_enhancer", True),
    ("use_fusion_layer", True),
    ("use_text_cross_attention", True),
    ("text_dropout", 0.0),
    ("fusion_dropout", 0.0),
    ("binary_query_selection", False),
    ("ffn_extra_layernorm", False),
    ("matcher_type", "HungarianMatcher"),
    ("dilation", False),
)
_SWINS: dict[str, dict[str, Any]] = {
    "swin_T_224_1k": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
    "swin_B_224_22k": {
        "embed_dim": 128,
        "depths": [2, 2, 18, 2],
        "num_heads": [4, 8, 16, 32],
        "window_size": 7,
    },
    "swin_B_384_22k": {
        "embed_dim": 128,
        "depths": [2, 2, 18, 2],
        "num_heads": [4, 8, 16, 32],
        "window_size": 12,
    },
    "swin_L_224_22k": {
        "embed_dim": 192,
        "depths": [2, 2, 18, 2],
        "num_heads": [6, 12, 24, 48],
        "window_size": 7,
    },
    "swin_L_384_22k": {
        "embed_dim": 192,
        "depths": [2, 2, 18, 2],
        "num_heads": [6, 12, 24, 48],
        "window_size": 12,
    },
}


def config_from_published(
    data: Mapping[str, Any],
    *,
    num_links: int | None = None,
    backbone: Mapping[str, Any] | None = None,
    legacy_group_mask: bool = False,
) -> UniPoseConfig:
    """The published `unipose_config` as ours; serving options keep their defaults.

    Args:
        backbone: other sizes of the Swin that `data` names, as options of transformers' `SwinConfig`.
        legacy_group_mask: True where the published inference is to be repeated, mistakes included.

    Raises:
        ModelError: an option that the published system has in only one setting has another.
    """
    for name, only in _FIXED:
        if data.get(name, only) != only:
            raise ModelError(f"unipose_config has {name}={data[name]!r}; only {only!r} is supported")
    if data["backbone"] not in _SWINS:
        raise ModelError(
            f"unipose_config names the backbone {data['backbone']!r}, not one of {sorted(_SWINS)}"
        )
    temperature = data["pe_temperatureH"]
    if data["pe_temperatureW"] != temperature:
        raise ModelError(
            f"unipose_config has pe_temperatureW={data['pe_temperatureW']}, pe_temperatureH={temperature}; "
            f"they must be equal"
        )
    swin = {"model_type": "swin", "drop_path_rate": 0.2} | _SWINS[data["backbone"]] | dict(backbone or {})
    swin["out_features"] = [f"stage{index + 1}" for index in data["return_interm_indices"]]
    detector = GroundingDinoConfig(
        backbone=swin,
        d_model=data["hidden_dim"],
        num_queries=data["num_queries"],
        num_feature_levels=data["num_feature_levels"],
        encoder_layers=data["enc_layers"],
        encoder_heads=data["nheads"],
        encoder_ffn_dim=data["dim_feedforward"],
        encoder_points=data["enc_n_points"],
        decoder_layers=data["dec_layers"],
        decoder_heads=data["nheads"],
        decoder_ffn_dim=data["dim_feedforward"],
        decoder_points=data["dec_n_points"],
        activation=data["transformer_activation"],
        dropout=data["dropout"],
        fusion_droppath=data["fusion_droppath"],
        temperature=temperature,
        mask_dim=0,
        costs=MatchCosts(ce=data["set_cost_class"], bbox=data["set_cost_bbox"], giou=data["set_cost_giou"]),
        weights=LossWeights(
            ce=data["cls_loss_coef"], bbox=data["bbox_loss_coef"], giou=data["giou_loss_coef"]
        ),
        focal_alpha=data.get("focal_alpha", 0.25),
        dn_number=data["dn_number"] if data.get("use_cdn", True) else 0,
        dn_label_noise=data["dn_label_noise_ratio"],
        dn_box_noise=data["dn_box_noise_scale"],
        dn_hide_padding=False,
        empty_batches=False,
        merge_iou=None,
    )
    return UniPoseConfig(
        routes=pose_routes(num_links or data.get("num_embs", 4)),
        detector=detector,
        box_layers=data["num_box_decoder_layers"],
        max_keypoints=data["num_body_points"],
        legacy_group_mask=legacy_group_mask,
        costs=PoseCosts(keypoints=data["set_cost_keypoint"], oks=data["set_cost_oks"]),
        weights=PoseWeights(keypoints=data["keypoint_loss_coef"], oks=data["oks_loss_coef"]),
    )
