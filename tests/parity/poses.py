"""A UniPose with the recorded sizes of a case, and its recorded inputs, targets and draws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from superlink.decoders.grounding_dino.losses import Targets
from superlink.decoders.grounding_dino.noise import Noise
from superlink.decoders.unipose.config import UniPoseConfig
from superlink.decoders.unipose.decoder import UniPoseDecoder
from superlink.decoders.unipose.inputs import PoseInputs
from superlink.decoders.unipose.keymap import load_published, to_published
from superlink.decoders.unipose.losses import COCO_SIGMAS, OTHER_SIGMA, PoseTargets
from superlink.decoders.unipose.published import config_from_published
from superlink.router.links import LinkBatch
from tests.parity.fixtures import Case, Tensors


def recorded_config(case: Case, *, legacy: bool = True) -> UniPoseConfig:
    """The configuration of `meta.json`; `legacy`: inference masks as recorded."""
    config = config_from_published(case.config, backbone=case.meta["swin"], legacy_group_mask=legacy)
    # The recorded loss took another weight for OKS than the one that its configuration names.
    weights = replace(config.weights, oks=case.meta["weight_dict"]["loss_oks"])
    return replace(config, num_instances=case.meta["num_group"], weights=weights)


def recorded_decoder(case: Case, weights: Tensors, *, legacy: bool = True) -> UniPoseDecoder:
    decoder = recorded_config(case, legacy=legacy).build(case.config["l_hidden_size"])
    load_published(decoder, weights)
    return decoder.eval()


def rows_of(tensors: Tensors, rows: slice) -> Tensors:
    """Some pictures of a recorded batch."""
    names = (
        "samples.tensors",
        "samples.mask",
        "obj_querys",
        "obj_query_masks",
        "kpt_querys",
        "kpt_query_masks",
    )
    return {name: tensors[name][rows] for name in names}


def links_of(tensors: Tensors, slots: int) -> tuple[LinkBatch, LinkBatch]:
    """Object links, and keypoint links with the rows of zeros that were not stored."""
    stored = tensors["kpt_querys"][:, :slots]
    padded = F.pad(stored, (0, 0, 0, 0, 0, slots - stored.shape[1]))
    return (
        LinkBatch(embeddings=tensors["obj_querys"], mask=tensors["obj_query_masks"]),
        LinkBatch(embeddings=padded, mask=tensors["kpt_query_masks"][:, :slots]),
    )


def inputs_of(
    decoder: UniPoseDecoder, tensors: Tensors, targets: PoseTargets | None = None, noise: Noise | None = None
) -> PoseInputs:
    return PoseInputs(
        calls=(),
        routes=(),
        letterboxes=(),
        pixels=tensors["samples.tensors"],
        valid=~tensors["samples.mask"],
        slots=decoder.config.max_keypoints,
        targets=targets,
        noise=noise,
    )


def slot_order(case: Case, row: int) -> list[int]:
    """The original keypoint in each slot of a prompt."""
    places: dict[str, int] = case.meta["kpt_id2index"][row]
    return [int(name) for name in sorted(places, key=lambda name: places[name])]


def split_keypoints(packed: Tensor) -> tuple[Tensor, Tensor]:
    """(..., 3 P): x, y of every keypoint, then all scores -> (..., P, 2) and (..., P)."""
    count = packed.shape[-1] // 3
    return packed[..., : 2 * count].unflatten(-1, (count, 2)), packed[..., 2 * count :]


def recorded_targets(case: Case, tensors: Tensors, slots: int) -> PoseTargets:
    """Recorded labels with keypoints in the order of the prompt, as our links stand."""
    coco = list(COCO_SIGMAS.values())
    labels, boxes, points, visible, areas, sigmas = [], [], [], [], [], []
    for row, index in enumerate(case.meta["id2index"]):
        order = slot_order(case, row)
        keypoints, seen = split_keypoints(tensors[f"target_{row}.keypoints"])
        ids = tensors[f"target_{row}.class_labels"]
        labels.append(torch.tensor([index[str(int(label))] for label in ids], dtype=torch.long))
        boxes.append(tensors[f"target_{row}.boxes"])
        missing = slots - len(order)
        points.append(F.pad(keypoints[:, order], (0, 0, 0, missing)))
        visible.append(F.pad(seen[:, order], (0, missing)))
        areas.append(tensors[f"target_{row}.area"])
        own = [coco[original] if original < len(coco) else OTHER_SIGMA for original in order]
        sigmas.append(torch.tensor(own + [OTHER_SIGMA] * missing))
    return PoseTargets(
        objects=Targets(labels=tuple(labels), boxes=tuple(boxes), masks=(None,) * len(labels)),
        points=tuple(points),
        visible=tuple(visible),
        areas=tuple(areas),
        sigmas=tuple(sigmas),
    )


def unpacked(rows: Tensor, columns: int) -> Tensor:
    """Rows of bits, eight in a byte and the highest first, as booleans."""
    bits = np.unpackbits(rows.numpy(), axis=-1, count=columns)
    return torch.from_numpy(bits.astype(np.bool_))


def gradient_norms(decoder: UniPoseDecoder) -> dict[str, float | None]:
    """Norm of every gradient under the published names; None where there is none."""
    values = {name: parameter.detach().clone() for name, parameter in decoder.named_parameters()}
    with torch.no_grad():
        for parameter in decoder.parameters():
            # The key map moves weights; put the gradients in their place for a moment.
            nothing = torch.full_like(parameter, torch.nan)
            parameter.copy_(nothing if parameter.grad is None else parameter.grad)
        norms = {
            name: None if tensor.isnan().any() else float(tensor.norm())
            for name, tensor in to_published(decoder).items()
            if tensor.is_floating_point()
        }
        for name, parameter in decoder.named_parameters():
            parameter.copy_(values[name])
    return norms


def recorded_terms(expected: Tensors) -> dict[str, Any]:
    """Recorded loss terms under our names."""
    found = {}
    for name, value in expected.items():
        if name.startswith("train.loss.loss_"):
            found[name.removeprefix("train.loss.").replace("_interm", "_enc")] = value
    return found
