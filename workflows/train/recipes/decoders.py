"""Decoders of the recipes, in sizes that two CPU cores can train and their smallest versions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from superlink.decoders.contract import DecoderConfig
from superlink.decoders.diffusion.config import DiffusionConfig
from superlink.decoders.diffusion.tiny import tiny_instruct_pix2pix, tiny_stable_diffusion
from superlink.decoders.grounding_dino import GroundingDinoConfig, LossWeights
from superlink.decoders.sam.config import PromptMix, SamConfig, mask_routes, small_sam
from superlink.decoders.unipose.config import UniPoseConfig, pose_routes
from superlink.workflows.data.scene_tasks.poses import KEYPOINTS


def tiny_detector() -> GroundingDinoConfig:
    """Grounding DINO for two CPU cores: a small ResNet with group norms, few queries, all cells of masks."""
    return GroundingDinoConfig(
        backbone={
            "model_type": "bit",
            "layer_type": "bottleneck",
            "embedding_size": 32,
            "depths": [2, 2, 3, 1],
            "hidden_sizes": [96, 192, 320, 448],
            "num_groups": 8,
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
        },
        d_model=128,
        norm_groups=16,
        num_queries=40,
        num_feature_levels=3,
        encoder_layers=2,
        encoder_heads=4,
        encoder_ffn_dim=256,
        encoder_points=2,
        decoder_layers=3,
        decoder_heads=4,
        decoder_ffn_dim=256,
        decoder_points=4,
        dropout=0.0,
        fusion_droppath=0.0,
        mask_dim=48,
        mask_hidden=48,
        fusion_scale=0.1,
        class_prior=0.01,
        shortest=224,
        longest=224,
        square=True,
        num_points=None,
        encoder_masks=False,
        weights=LossWeights(ce=4.0, dense=2.0),
        dn_number=20,
        dn_groups=3,
        threshold=0.275,  # best F1 on 60 foreign pictures of another seed than the scores'
    )


def smoke_detector() -> GroundingDinoConfig:
    """`tiny_detector` with every part and few channels."""
    tiny = tiny_detector()
    small = {"embedding_size": 16, "hidden_sizes": [32, 32, 64, 64], "depths": [1, 1, 1, 1]}
    return replace(
        tiny,
        backbone={**tiny.backbone, **small},
        d_model=32,
        norm_groups=8,
        num_queries=12,
        mask_dim=16,
        mask_hidden=16,
    )


def family_decoders(detector: GroundingDinoConfig) -> tuple[DecoderConfig, ...]:
    """Every decoder of the family around a detector that has learned.

    The detector leaves masks to Segment Anything, whose boxes it finds: `maskless` of what it was.
    """
    detector = maskless(detector)
    links = detector.routes[0].token.num_links
    return (
        detector,
        tiny_sam(links),
        tiny_unipose(detector),
        tiny_stable_diffusion(),
        tiny_instruct_pix2pix(),
    )


def smoke_decoders(detector: GroundingDinoConfig) -> tuple[DecoderConfig, ...]:
    """`family_decoders` with every part and few channels; pictures are made of 32 pixels in two steps."""
    _, sam, poser, painter, editor = family_decoders(detector)
    assert isinstance(sam, SamConfig)
    assert isinstance(poser, UniPoseConfig)
    small: dict[str, Any] = {
        "image_size": 56,
        "vision_width": 32,
        "vision_layers": 2,
        "vision_heads": 2,
        "global_layers": (1,),
        "d_model": 32,
        "decoder_heads": 2,
        "decoder_ffn_dim": 32,
        "iou_hidden": 32,
    }
    return (
        maskless(detector),
        replace(sam, **small),
        replace(poser, num_instances=4),
        _smallest(painter),
        _smallest(editor),
    )


def maskless(detector: GroundingDinoConfig) -> GroundingDinoConfig:
    """A detector without its mask branch; what is left of its weights fits, and finds the same boxes."""
    stages = list(detector.backbone["out_features"])
    return replace(
        detector,
        routes=tuple(route for route in detector.routes if route.token.text != "[SEG]"),
        backbone={**detector.backbone, "out_features": stages[1:] if detector.mask_dim else stages},
        mask_dim=0,
        mask_hidden=None,
    )


def tiny_sam(num_links: int = 4) -> SamConfig:
    """Masks of detected boxes ([SEG] comes after [DET]) and of what a person points out; 1.8 M parameters.

    Patches of 8 pixels, twice as fine as published ones: mask cells are 2 x 2 pixels, where at 4 x 4 the
    edges of small shapes alone would cost more overlap than is to be had. Four narrow layers keep the 784
    patches affordable. When served, the link comes with a box, points or a mask: training asks for it
    alone just often enough that it says something too.
    """
    return replace(
        small_sam(num_links),
        routes=mask_routes(num_links),
        prompts=PromptMix(link=0.25, box=1.5, points=1.25, mask=1.0, draws=4),
        max_points=6,  # as many as a scribble has
    )


def tiny_unipose(detector: GroundingDinoConfig) -> UniPoseConfig:
    """The detector's own network, which its weights fit, with keypoints in its last two layers; 2.7 M.

    Args:
        detector: without masks.
    """
    return UniPoseConfig(
        routes=pose_routes(detector.routes[0].token.num_links),
        # Below the best F1 (0.18 to 0.2): a missed person loses every keypoint, a false one only itself.
        detector=replace(detector, threshold=0.15),
        box_layers=1,
        num_instances=12,
        max_keypoints=len(KEYPOINTS),
        keypoint_names=KEYPOINTS,
    )


def _smallest(painter: DecoderConfig) -> DecoderConfig:
    assert isinstance(painter, DiffusionConfig)
    vae: dict[str, Any] = {**painter.vae, "block_out_channels": [8, 8, 16, 16], "sample_size": 32}
    unet = {"block_out_channels": [8, 16, 16], "cross_attention_dim": 16, "sample_size": 4}
    return replace(
        painter,
        vae=vae,
        unet={**painter.unet, **unet},
        num_queries=4,
        mapper_heads=2,
        mapper_ffn_dim=32,
        side=32,
        max_side=64,
        steps=2,
    )
