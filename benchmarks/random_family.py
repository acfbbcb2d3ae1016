"""Writes a model folder of the embedded router's size with every decoder at tiny size and random weights.

    python benchmarks/random_family.py FOLDER

For measuring time and memory before anything is trained: `python benchmarks/ask.py --model FOLDER --forced`.
Decoders serve their best guesses, however poor they are, so that those that build on them have work to do.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from superlink.agents.embedded import model_folder
from superlink.agents.model_folder import Model, read_outline, save_model
from superlink.decoders.contract import DecoderConfig
from superlink.decoders.diffusion.tiny import tiny_instruct_pix2pix, tiny_stable_diffusion
from superlink.decoders.grounding_dino import GroundingDinoConfig
from superlink.decoders.grounding_dino.config import perception_routes
from superlink.decoders.sam.config import small_sam
from superlink.decoders.unipose import UniPoseConfig
from superlink.router.model import Router
from superlink.workflows.train.recipes import tiny_detector

GUESSES = 8  # boxes that a detector serves, and masks of them


def family() -> tuple[DecoderConfig, ...]:
    """All decoders; masks are Segment Anything's, of boxes that the detector finds."""
    boxes = tiny_detector()
    stages = {"out_features": ["stage2", "stage3", "stage4"]}
    people = replace(boxes, mask_dim=0, mask_hidden=None, backbone=dict(boxes.backbone) | stages)
    return (
        _guessing(replace(boxes, routes=perception_routes()[:2])),
        replace(small_sam(), threshold=0.0),
        UniPoseConfig(detector=_guessing(people), box_layers=1, num_instances=20, max_keypoints=17),
        tiny_stable_diffusion(),
        tiny_instruct_pix2pix(),
    )


def write(folder: Path, *, router: Path | str = "tiny", seed: int = 0) -> None:
    """
    Args:
        folder: made if needed.
        router: name of an embedded model, or a folder, whose router's sizes and words are taken.
    """
    torch.manual_seed(seed)
    decoders = family()
    outline, tokenizer, _ = read_outline(model_folder(router))
    tokens = tuple(route.token for config in decoders for route in config.routes)
    fresh = Router(replace(outline, tokens=tokens))
    model = Model(
        name="random",
        router=fresh,
        tokenizer=tokenizer,
        decoders=tuple(config.build(outline.width) for config in decoders),
    )
    save_model(folder, model, dtype="fp16")


def _guessing(config: GroundingDinoConfig) -> GroundingDinoConfig:
    return replace(config, threshold=0.0, grounding_threshold=0.0, max_detections=GUESSES, merge_iou=None)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--router", default="tiny", help="an embedded model or a model folder")
    given = parser.parse_args(arguments)
    write(given.folder, router=given.router)


if __name__ == "__main__":
    main()
