"""Loss terms of all stages: decoder layers, proposals, denoising.

Everything that can be is computed for all stages at once; a term of a stage is then a slice.

Axes: B pictures, Q queries of a stage, N denoising queries, K classes, M matched pairs of all stages, C
mask channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from superlink.decoders.grounding_dino.boxes import giou, to_xyxy
from superlink.decoders.grounding_dino.config import GroundingDinoConfig
from superlink.decoders.grounding_dino.denoising import Denoising
from superlink.decoders.grounding_dino.matching import Pairs
from superlink.decoders.grounding_dino.noise import Noise
from superlink.decoders.grounding_dino.points import (
    choose_points,
    draw_points,
    mask_terms,
    sample,
    sample_rows,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """Labels of a batch, in the frame of the decoder."""

    labels: tuple[Tensor, ...]  # for each picture (n,) class index
    boxes: tuple[Tensor, ...]  # for each picture (n, 4) cxcywh of the picture
    masks: tuple[Tensor | None, ...]  # for each picture (n, H, W) bool over the frame, or no masks

    @property
    def sizes(self) -> list[int]:
        return [len(one) for one in self.labels]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stage:
    """One place where predictions are compared with objects."""

    suffix: str  # of its loss terms
    logits: Tensor  # (B, Q, K)
    boxes: Tensor  # (B, Q, 4) cxcywh
    pairs: Sequence[Pairs]  # for each picture
    count: float  # what its sums are divided by
    real: Tensor | None = None  # (B, Q) bool: queries that exist; None: all


def denoising_stages(
    denoising: Denoising,
    said: Sequence[tuple[Tensor, Tensor]],
    sizes: Sequence[int],
    *,
    count: float,
    hide_padding: bool,
) -> list[Stage]:
    """Logits (B, N, K) and boxes (B, N, 4) that each layer said of denoising queries; the last comes first.

    `count` is that of the other stages: every one of the `sizes` objects of a picture is there once a group.
    """
    pairs = [(denoising.positives(size), torch.arange(size).repeat(denoising.groups)) for size in sizes]
    last = len(said) - 1
    return [
        Stage(
            suffix="_dn" if at == last else f"_dn_{at}",
            logits=said[at][0],
            boxes=said[at][1],
            pairs=pairs,
            count=count * denoising.groups,
            real=denoising.real if hide_padding else None,
        )
        for at in [last, *range(last)]
    ]


def stage_suffixes(config: GroundingDinoConfig) -> list[str]:
    """Of the last decoder layer, the others, the proposals, then the same layers for denoising."""
    layers = ["", *(f"_{layer}" for layer in range(config.decoder_layers - 1))]
    return [*layers, "_enc", *(f"_dn{suffix}" for suffix in layers if config.dn_number)]


def class_and_box_weights(config: GroundingDinoConfig) -> dict[str, float]:
    """Weights of all terms but those of masks."""
    own = config.weights
    terms = {"ce": own.ce, "bbox": own.bbox, "giou": own.giou}
    weights = {f"loss_{term}{at}": weight for at in stage_suffixes(config) for term, weight in terms.items()}
    if own.dense:
        weights["loss_dense"] = own.dense
        if config.class_prior is not None:
            weights["loss_dense_early"] = own.dense
    return weights


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matched:
    """The pairs of all stages in one table; stage s owns rows `sizes[s]` after those before it."""

    picture: Tensor  # (M,)
    query: Tensor  # (M,)
    target: Tensor  # (M,) object among those of all pictures
    sizes: list[int]

    @classmethod
    def of(cls, stages: Sequence[Stage], sizes: Sequence[int], device: torch.device) -> Matched:
        starts = [sum(sizes[:b]) for b in range(len(sizes))]
        picture, query, target = [], [], []
        for stage in stages:
            for b, (queries, objects) in enumerate(stage.pairs):
                picture.append(torch.full_like(queries, b))
                query.append(queries)
                target.append(objects + starts[b])
        columns = (torch.cat(one).to(device) for one in (picture, query, target))
        return cls(
            picture=next(columns),
            query=next(columns),
            target=next(columns),
            sizes=[sum(len(queries) for queries, _ in stage.pairs) for stage in stages],
        )

    def split(self) -> list[tuple[Tensor, Tensor]]:
        """(picture, query) of each stage."""
        return list(zip(self.picture.split(self.sizes), self.query.split(self.sizes), strict=True))


def focal(logits: Tensor, positive: Tensor, mask: Tensor, *, alpha: float, gamma: float = 2.0) -> Tensor:
    """Sum of the sigmoid focal loss where `mask` (Lin et al. 2017, equation 5).

    Args:
        logits: any shape; may be infinite where `mask` is False.
        positive: the same shape, 0 or 1.
        mask: broadcasts to that shape.
    """
    finite = logits.masked_fill(~mask, 0.0)
    entropy = F.binary_cross_entropy_with_logits(finite, positive, reduction="none")
    prob = finite.sigmoid()
    wrong = prob + positive - 2 * prob * positive  # 1 - probability of the right answer
    balance = alpha * positive + (1 - alpha) * (1 - positive)
    return (balance * entropy * wrong**gamma * mask).sum()


def shared_labels(labels: Tensor, boxes: Tensor, classes: int) -> Tensor:
    """(n, K) 0 or 1: the labels of each object, with those of other entries of the same box.

    Several phrases may name one object ("star", "red thing"); each of them is right about it.
    """
    names = F.one_hot(labels, classes).float()
    same = (boxes[:, None] == boxes[None]).all(-1).float()
    return (same @ names).clamp(max=1.0)


def class_term(
    stage: Stage, picture: Tensor, query: Tensor, names: Tensor, class_mask: Tensor, alpha: float
) -> Tensor:
    """`names` (rows, K): the labels of the object that each matched query stands for."""
    positive = torch.zeros_like(stage.logits)
    positive[picture, query] = names
    mask = class_mask[:, None, :]
    if stage.real is not None:
        mask = mask & stage.real[..., None]
    return focal(stage.logits, positive, mask, alpha=alpha) / stage.count


def class_and_box_terms(
    stages: Sequence[Stage], matched: Matched, targets: Targets, class_mask: Tensor, *, alpha: float
) -> dict[str, Tensor]:
    """`loss_ce`, `loss_bbox`, `loss_giou` of every stage."""
    classes = class_mask.shape[1]
    by_object = [
        shared_labels(labels, boxes, classes)
        for labels, boxes in zip(targets.labels, targets.boxes, strict=True)
    ]
    names = torch.cat(by_object)[matched.target].split(matched.sizes)
    goal = torch.cat(targets.boxes)[matched.target]
    rows = matched.split()
    found = torch.cat(
        [stage.boxes[picture, query] for stage, (picture, query) in zip(stages, rows, strict=True)]
    )
    distance = (found - goal).abs().sum(-1).split(matched.sizes)
    apart = (1 - giou(to_xyxy(found), to_xyxy(goal))).split(matched.sizes)
    terms = {}
    for index, (stage, (picture, query)) in enumerate(zip(stages, rows, strict=True)):
        terms[f"loss_ce{stage.suffix}"] = class_term(stage, picture, query, names[index], class_mask, alpha)
        # The empty sum keeps the graph, so that backward works on a batch without objects.
        nothing = stage.boxes.sum() * 0
        terms[f"loss_bbox{stage.suffix}"] = distance[index].sum() / stage.count + nothing
        terms[f"loss_giou{stage.suffix}"] = apart[index].sum() / stage.count + nothing
    return terms


def mask_loss_terms(
    stages: Sequence[Stage],
    matched: Matched,
    embeddings: Sequence[Tensor],
    features: Tensor,
    targets: Targets,
    config: GroundingDinoConfig,
    noise: Noise,
) -> dict[str, Tensor]:
    """`loss_mask`, `loss_dice` of every stage.

    Args:
        embeddings: for each stage (rows, C), of its rows of `matched`.
        features: (B, C, h, w).
    """
    device = features.device
    with_masks = torch.tensor([masks is not None for masks in targets.masks], device=device)
    kept = with_masks[matched.picture]
    sizes = [int(part.sum()) for part in kept.split(matched.sizes)]
    picture = matched.picture[kept]
    # Objects of pictures without masks are not in the stack of maps.
    has_map = with_masks.repeat_interleave(torch.tensor(targets.sizes, device=device))
    row = (has_map.cumsum(0) - 1)[matched.target[kept]]
    maps = torch.cat([masks for masks in targets.masks if masks is not None])
    logits = mask_logits(torch.cat(list(embeddings))[kept], picture, features)
    if config.num_points is None:
        values, labels = logits.flatten(1), cell_labels(maps, features.shape[-2:])[row]
    else:
        draws = [draw_points(part, config, noise) for part in picture.split(sizes)]
        points = choose_points(
            logits, torch.cat([one for one, _ in draws]), torch.cat([one for _, one in draws]), config
        )
        values, labels = sample(logits, points), sample_rows(maps, row, points)
    entropy, dice = mask_terms(values, labels)
    terms = {}
    nothing = features.sum() * 0
    for stage, one, other in zip(stages, entropy.split(sizes), dice.split(sizes), strict=True):
        terms[f"loss_mask{stage.suffix}"] = one.sum() / stage.count + nothing
        terms[f"loss_dice{stage.suffix}"] = other.sum() / stage.count + nothing
    return terms


def mask_logits(embeddings: Tensor, picture: Tensor, features: Tensor) -> Tensor:
    """(M, C) embeddings, each against the features (B, C, h, w) of its own picture -> (M, h, w)."""
    order = picture.argsort(stable=True)
    counts = torch.bincount(picture, minlength=len(features)).tolist()
    parts = [
        part @ own.flatten(1)
        for part, own in zip(embeddings[order].split(counts), features.to(embeddings.dtype), strict=True)
    ]
    back = order.argsort()
    logits: Tensor = torch.cat(parts)[back].unflatten(1, features.shape[-2:])
    return logits


def cell_labels(maps: Tensor, shape: torch.Size) -> Tensor:
    """(R, H, W) bool masks to (R, h * w): the share of each cell that is covered."""
    share: Tensor = F.interpolate(maps[:, None].float(), size=tuple(shape), mode="area")
    return share[:, 0].flatten(1)
