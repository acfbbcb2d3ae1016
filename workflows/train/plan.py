"""Which links of an answer go to which decoder, and what it should make of them.

A plan is made from text and targets alone, before the router runs: the trainer must know how many
objects the whole global batch holds before the first backward pass.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from superlink.agents.regions import region_name, region_names
from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks
from superlink.decoders.contract import Call, DecoderConfig, Route
from superlink.router.errors import DataError
from superlink.router.links import SuperLink
from superlink.router.phrases import parse_reply
from superlink.router.tokens import RoutingToken
from superlink.workflows.data.samples import Sample, Target


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlannedCall:
    """One call of a decoder, before its link embeddings exist."""

    decoder: str
    links: tuple[int, ...]  # which routing tokens of the last message, counted in reading order
    call: Call  # with empty embeddings: `prepare` reads pictures, phrases and targets
    target: Artifact


def routing_tokens(configs: Sequence[DecoderConfig]) -> dict[str, RoutingToken]:
    """Every routing token of a system by its text."""
    routes = [route for config in configs for route in config.routes]
    return {token.text: token for route in routes for token in (*route.takes, route.token)}


def last_tokens(sample: Sample, tokens: Mapping[str, RoutingToken]) -> list[RoutingToken]:
    """Routing tokens of the message to learn, in reading order."""
    if not sample.conversation or sample.conversation[-1].role != "assistant":
        raise DataError(f"sample {sample.source!r} must end with an assistant message")
    if not tokens:
        return []
    pattern = "|".join(re.escape(text) for text in sorted(tokens, key=len, reverse=True))
    return [tokens[text] for text in re.findall(pattern, sample.conversation[-1].text)]


def plan_calls(
    sample: Sample, configs: Mapping[str, DecoderConfig], tokens: Mapping[str, RoutingToken], *, salt: int = 0
) -> list[PlannedCall]:
    """Decoder calls of the last message of a sample, in reading order of their first link.

    Where a route builds on another (`Route.after`), that one's decoder gets the same links just before,
    with the boxes of the masks to learn: what it will be asked for when the model is served.

    Args:
        configs: decoders by name.
        tokens: routing tokens by text.
        salt: changes the seed of every call, so that noise differs from step to step.

    Raises:
        DataError: targets that do not match the routing tokens, with both numbers and the source.
    """
    found = last_tokens(sample, tokens)
    phrases = parse_reply(sample.conversation[-1].text, tuple(tokens)).phrases
    routes = {route.token.text: route for config in configs.values() for route in config.routes}
    waiting: dict[str, list[Target]] = {}
    for target in sample.targets:
        waiting.setdefault(target.token, []).append(target)
    groups = list(_groups(found, configs, routes))
    asked: list[tuple[Sequence[RoutingToken], Sequence[int], Artifact]] = []
    for group in groups:
        token = found[group[-1]]
        target = _next_target(sample, token, waiting)
        _check_names(sample, [found[i] for i in group], target)
        first = _route_before(token, routes)
        if first is not None and isinstance(target.artifact, Masks):
            drawn = _pointed_out(sample, configs[token.decoder])
            places = [place for place, i in enumerate(group) if region_name(phrases[i]) not in drawn]
            if places:
                boxes = _boxes_of(target.artifact, places)
                asked.append(([first.token] * len(places), [group[place] for place in places], boxes))
        asked.append(([found[i] for i in group], group, target.artifact))
    left = [target.token for targets in waiting.values() for target in targets]
    if left:
        raise DataError(
            f"sample {sample.source!r} has {len(sample.targets)} targets but its last message asks for "
            f"{len(groups)} decoder calls; nothing asks for {', '.join(left)}"
        )
    seed = zlib.crc32(f"{sample.source}/{salt}".encode())
    planned = []
    for number, (owners, indices, artifact) in enumerate(asked):
        decoder = owners[-1].decoder
        links = tuple(
            SuperLink(token=owner, embeddings=torch.empty(owner.num_links, 0), phrase=phrases[i], position=0)
            for owner, i in zip(owners, indices, strict=True)
        )
        name = f"{decoder}.{number}"
        # No `image_id`: sources of two files may be spelled alike, and a decoder would take one's picture
        # for the other's. Without a name pictures go by the array, which the calls of a sample share.
        call = Call(id=name, links=links, image=sample.image, seed=seed)
        planned.append(PlannedCall(decoder=decoder, links=tuple(indices), call=call, target=artifact))
    return planned


def _route_before(token: RoutingToken, routes: Mapping[str, Route]) -> Route | None:
    """The route that the one of a token builds on, where its decoder is there too."""
    own = routes.get(token.text)
    return None if own is None or own.after is None else routes.get(own.after)


def _pointed_out(sample: Sample, config: DecoderConfig) -> frozenset[str]:
    """Names of regions, which a promptable decoder takes from the person and not from another decoder."""
    prompts = sum(len(message.prompts) for message in sample.conversation)
    return frozenset(region_names((), prompts) if config.promptable else ())


def _boxes_of(target: Masks, places: Sequence[int]) -> Boxes:
    """Boxes of the masks of some classes, which are renumbered; an empty mask has none."""
    seen = np.isin(target.labels, places) & target.masks.any((1, 2))
    boxes = target.select(seen).boxes()
    labels = np.searchsorted(places, boxes.labels)
    return replace(boxes, labels=labels, names=tuple(target.names[at] for at in places))


def _groups(
    found: Sequence[RoutingToken], configs: Mapping[str, DecoderConfig], routes: Mapping[str, Route]
) -> Iterator[list[int]]:
    """Indices of tokens that go into one call; those that its route takes along stand first."""
    gathered: dict[str, list[int]] = {}
    groups: list[list[int]] = []
    for index, token in enumerate(found):
        # A token without a decoder of its own can only be taken along.
        gathers = token.decoder not in configs or configs[token.decoder].gather
        if gathers and token.text in gathered:
            gathered[token.text].append(index)
            continue
        group = [index]
        groups.append(group)
        gathered[token.text] = group
    taken: list[list[int]] = []
    for text, group in gathered.items():
        along = (
            [gathered[token.text] for token in routes[text].takes if token.text in gathered]
            if text in routes
            else []
        )
        taken += along
        group[:0] = [index for one in along for index in one]
    return iter([group for group in groups if not any(group is one for one in taken)])


def _next_target(sample: Sample, token: RoutingToken, waiting: Mapping[str, list[Target]]) -> Target:
    if not waiting.get(token.text):
        raise DataError(
            f"sample {sample.source!r} writes {token.text} but has no target for it; "
            f"targets: {[target.token for target in sample.targets]}"
        )
    return waiting[token.text].pop(0)


def _check_names(sample: Sample, tokens: Sequence[RoutingToken], target: Target) -> None:
    """The target has a name for each link: keypoints for those of the last token, classes for the first."""
    artifact = target.artifact
    expected = {tokens[0].text: artifact.names} if isinstance(artifact, Boxes | Masks | Keypoints) else {}
    if isinstance(artifact, Keypoints) and tokens[-1] != tokens[0]:
        expected[tokens[-1].text] = artifact.keypoint_names
    for text, names in expected.items():
        links = sum(token.text == text for token in tokens)
        if len(names) != links:
            raise DataError(
                f"sample {sample.source!r} writes {links} {text} but its target names {len(names)} "
                f"{'keypoints' if text != tokens[0].text else 'classes'}: {list(names)}"
            )
