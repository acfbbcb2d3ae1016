"""Writes the family as its recipe begins it, before anything new is trained: most weights are random.

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

from superlink.decoders.contract import DecoderConfig
from superlink.decoders.grounding_dino import GroundingDinoConfig
from superlink.decoders.sam.config import SamConfig
from superlink.decoders.unipose import UniPoseConfig
from superlink.workflows.train.recipes.decoders import family_decoders
from superlink.workflows.train.recipes.family import family_system

GUESSES = 8  # boxes that a detector serves, and masks of them


def family(detector: GroundingDinoConfig) -> tuple[DecoderConfig, ...]:
    """All decoders of the recipe, with guesses."""
    return tuple(_guesser(config) for config in family_decoders(detector))


def write(folder: Path, *, router: Path | str = "tiny", seed: int = 0) -> None:
    """
    Args:
        folder: made if needed.
        router: name of an embedded model, or a folder, that the family grows from.
    """
    torch.manual_seed(seed)
    system = replace(family_system(router, family), name="random")
    system.export(system.build().eval(), folder)


def _guesser(config: DecoderConfig) -> DecoderConfig:
    if isinstance(config, GroundingDinoConfig):
        return _guessing(config)
    if isinstance(config, UniPoseConfig):
        return replace(config, detector=_guessing(config.detector))
    return replace(config, threshold=0.0) if isinstance(config, SamConfig) else config


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
