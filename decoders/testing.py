"""A conformance kit for decoders: `check_decoder(config)` runs what the contract promises.

Call it from a test of your own decoder, with a configuration that is small enough for a CPU:

    def test_my_decoder_keeps_the_contract():
        check_decoder(my_config())

Every check raises AssertionError with a sentence. They can be called one by one as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, Picture, Text
from superlink.decoders.contract import Call, Decoder, DecoderConfig, Route
from superlink.router.errors import SuperlinkError
from superlink.router.links import LinkBatch, SuperLink

MakeTarget = Callable[[Call, Route], Artifact]
SIZES = ((96, 128), (64, 64), (120, 50), (1, 1), (3, 200))  # (height, width) of the pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """A decoder with fresh weights and calls to try on it."""

    config: DecoderConfig
    decoder: Decoder[Any, Any]
    calls: tuple[Call, ...]
    targets: tuple[Artifact, ...]

    def run(self, calls: Sequence[Call]) -> list[Artifact]:
        with torch.inference_mode():
            self.decoder.eval()
            inputs = self.decoder.prepare(calls)
            outputs = self.decoder(LinkBatch.of([call.links for call in calls]), inputs)
            return self.decoder.postprocess(outputs, inputs)


def check_decoder(config: DecoderConfig, *, link_dim: int = 32, target: MakeTarget | None = None) -> None:
    """Run every check.

    Args:
        config: small enough to run a dozen times on a CPU.
        link_dim: width of the links to try.
        target: the right answer to a call, for decoders that return other things than boxes, masks and
            keypoints.
    """
    kit = make_kit(config, link_dim=link_dim, target=target)
    check_configuration(kit)
    check_answers(kit)
    check_batches(kit)
    check_bad_call(kit)
    check_training(kit)
    check_nothing_to_learn(kit)
    check_weights_round_trip(kit, link_dim=link_dim)


def make_kit(config: DecoderConfig, *, link_dim: int = 32, target: MakeTarget | None = None) -> Kit:
    """A decoder and, for every route, calls with pictures of several sizes and one to three links."""
    torch.manual_seed(0)
    decoder = config.build(link_dim)
    with torch.no_grad():
        # Fresh weights have zeros in places where a trained decoder has none.
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    rng = np.random.default_rng(0)
    calls = []
    routes = []
    for index, size in enumerate(SIZES):
        route = config.routes[index % len(config.routes)]
        count = 1 + index % 3 if config.gather else 1
        calls.append(_call(route, f"{config.name}.{index}", size, count, link_dim, rng))
        routes.append(route)
    make = target or box_or_mask_target
    targets = tuple(make(call, route) for call, route in zip(calls, routes, strict=True))
    return Kit(config=config, decoder=decoder, calls=tuple(calls), targets=targets)


def _call(
    route: Route, name: str, size: tuple[int, int], links: int, link_dim: int, rng: np.random.Generator
) -> Call:
    tokens = [token for token in (*route.takes, route.token) for _ in range(links)]
    return Call(
        id=name,
        links=tuple(
            SuperLink(
                token=token,
                embeddings=torch.from_numpy(rng.normal(size=(token.num_links, link_dim))).float(),
                phrase=f"thing {index}",
                position=index,
            )
            for index, token in enumerate(tokens)
        ),
        image=rng.integers(0, 256, (*size, 3), dtype=np.uint8),
        image_id=f"picture of {name}",
        seed=7,
        threshold=0.0,
    )


def box_or_mask_target(call: Call, route: Route) -> Artifact:
    """One object for each class: a box in the middle of the picture, filled if masks are asked for.

    Keypoints are the corners of the box in turn.
    """
    if call.image is None or route.returns not in (Boxes, Masks, Keypoints):
        raise TypeError(f"check_decoder needs `target` for a route that returns {route.returns.__name__}")
    height, width = call.image.shape[:2]
    box = np.array([width // 4, height // 4, max(1, 3 * width // 4), max(1, 3 * height // 4)])
    count = len(call.names)
    xyxy = np.tile(box.astype(np.float32), (count, 1))
    scores, labels = np.ones(count, dtype=np.float32), np.arange(count)
    if route.returns is Boxes:
        return Boxes(xyxy=xyxy, scores=scores, labels=labels, names=call.names, size=(height, width))
    if route.returns is Keypoints:
        corners = [
            (box[0 if part % 2 else 2], box[1 if part % 4 < 2 else 3], 2) for part in range(len(call.parts))
        ]
        return Keypoints(
            xyv=np.tile(np.array(corners, dtype=np.float32).reshape(-1, 3), (count, 1, 1)),
            keypoint_names=call.parts,
            xyxy=xyxy,
            scores=scores,
            labels=labels,
            names=call.names,
            size=(height, width),
        )
    masks = np.zeros((count, height, width), dtype=np.bool_)
    masks[:, box[1] : box[3], box[0] : box[2]] = True
    return Masks(masks=masks, xyxy=xyxy, scores=scores, labels=labels, names=call.names, size=(height, width))


def check_configuration(kit: Kit) -> None:
    """The configuration is plain data, and its routes lead to this decoder."""
    data = json.loads(json.dumps(kit.config.to_json()))
    again = type(kit.config).from_json(data)
    assert again == kit.config, f"{kit.config.name}: from_json(to_json()) gives another configuration"
    assert kit.config.routes, f"{kit.config.name}: a decoder needs at least one route"
    for route in kit.config.routes:
        assert route.token.decoder == kit.config.name, (
            f"routing token {route.token.text!r} names {route.token.decoder!r}, not {kit.config.name!r}"
        )


def check_answers(kit: Kit) -> None:
    """One artifact a call, of the promised type, with the links' phrases, inside the picture, best first."""
    answers = kit.run(kit.calls)
    assert len(answers) == len(kit.calls), f"{len(kit.calls)} calls gave {len(answers)} artifacts"
    for call, found in zip(kit.calls, answers, strict=True):
        route = next(route for route in kit.config.routes if route.token == call.token)
        kind = type(found).__name__
        assert isinstance(found, route.returns), (
            f"{call.id}: {route.token.text} returns {route.returns.__name__}, got {kind}"
        )
        assert found.origin.decoder == kit.config.name, f"{call.id}: the artifact does not name its decoder"
        assert found.origin.source == call.image_id, f"{call.id}: the artifact does not name its picture"
        if isinstance(found, (Boxes, Masks, Keypoints)):
            _check_items(call, route, found)


def _check_items(call: Call, route: Route, found: Boxes | Masks | Keypoints) -> None:
    assert call.image is not None
    assert found.names == call.names, f"{call.id}: names are {found.names}, the links say {call.names}"
    if isinstance(found, Keypoints):
        _check_keypoints(call, found)
    assert found.size == call.image.shape[:2], f"{call.id}: size is {found.size}"
    height, width = found.size
    x, y = found.xyxy[:, 0::2], found.xyxy[:, 1::2]
    assert np.isfinite(found.xyxy).all(), f"{call.id}: a coordinate is not finite"
    assert (x >= 0).all() and (x <= width).all() and (y >= 0).all() and (y <= height).all(), (
        f"{call.id}: a box reaches outside the picture of {found.size}"
    )
    assert (x[:, 0] <= x[:, 1]).all() and (y[:, 0] <= y[:, 1]).all(), f"{call.id}: a box is inside out"
    assert (np.diff(found.scores) <= 0).all(), f"{call.id}: items are not sorted by score"
    assert ((found.scores >= 0) & (found.scores <= 1)).all(), f"{call.id}: a score is not in [0, 1]"
    assert ((found.labels >= 0) & (found.labels < len(call.names))).all(), f"{call.id}: a label has no link"
    if route.top is not None:
        most = np.bincount(found.labels).max(initial=0)
        assert most <= route.top, f"{call.id}: {most} items of one link, the route keeps {route.top}"


def _check_keypoints(call: Call, found: Keypoints) -> None:
    names = found.keypoint_names
    assert names == call.parts, f"{call.id}: keypoints are {names}, the links say {call.parts}"
    assert found.xyv.shape[1:] == (len(names), 3), (
        f"{call.id}: {len(names)} keypoints in an array of {found.xyv.shape}"
    )
    height, width = found.size
    x, y = found.xyv[..., 0], found.xyv[..., 1]
    assert np.isfinite(found.xyv).all(), f"{call.id}: a keypoint is not finite"
    assert (x >= 0).all() and (x <= width).all() and (y >= 0).all() and (y <= height).all(), (
        f"{call.id}: a keypoint lies outside the picture of {found.size}"
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in an order that the size of a batch does not change.

    Untrained weights score many proposals alike; rounding then decides which of them become queries.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def check_batches(kit: Kit) -> None:
    """A batch gives what its calls give alone, in the order of the calls."""
    with one_thread():
        together = kit.run(kit.calls)
        alone = [kit.run([call])[0] for call in kit.calls]
        backwards = kit.run(kit.calls[::-1])[::-1]
    for call, batch, single, other in zip(kit.calls, together, alone, backwards, strict=True):
        assert_same(batch, single, f"{call.id}: in a batch and alone")
        assert_same(batch, other, f"{call.id}: first to last and last to first")


def assert_same(found: Artifact, expected: Artifact, what: str) -> None:
    """Equal up to rounding in float32."""
    assert type(found) is type(expected), f"{what} differ in type"
    for name, atol in (("scores", 1e-4), ("xyxy", 0.05), ("xyv", 0.05), ("labels", 0), ("pixels", 1)):
        one, other = getattr(found, name, None), getattr(expected, name, None)
        if one is None or other is None:
            continue
        assert one.shape == other.shape, f"{what} differ in the shape of {name}: {one.shape}, {other.shape}"
        gap = _largest_gap(one, other)
        assert gap <= atol, f"{what} differ by {gap:.3g} in {name}"
    if isinstance(found, Masks) and isinstance(expected, Masks):
        share = float((found.masks != expected.masks).mean()) if found.masks.size else 0.0
        assert share <= 1e-3, f"{what} differ in {share:.1%} of the mask pixels"
    if isinstance(found, Text) and isinstance(expected, Text):
        assert found.text == expected.text, f"{what} differ in their text"


def _largest_gap(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0))


def check_bad_call(kit: Kit) -> None:
    """A call without the picture that it needs is refused by name, and leaves the decoder usable."""
    if not kit.config.needs_image:
        return
    bad = replace(kit.calls[0], id="call without picture", image=None)
    try:
        kit.decoder.prepare([kit.calls[0], bad])
    except SuperlinkError as error:
        assert bad.id in str(error), f"the error does not say which call is bad: {error}"
    else:
        raise AssertionError("a call without its picture was accepted")
    kit.run(kit.calls[:1])


def _terms(kit: Kit, targets: Sequence[Artifact]) -> tuple[dict[str, Tensor], Tensor, LinkBatch]:
    kit.decoder.train()
    kit.decoder.zero_grad()
    batch = LinkBatch.of([call.links for call in kit.calls])
    links = LinkBatch(embeddings=batch.embeddings.clone().requires_grad_(), mask=batch.mask)
    inputs = kit.decoder.prepare(kit.calls, targets)
    outputs = kit.decoder(links, inputs)
    terms = kit.decoder.loss(outputs, inputs, count=max(kit.decoder.count(inputs), 1.0))
    weights = kit.decoder.weights
    unknown = sorted(set(terms) - set(weights))
    assert not unknown, f"loss terms without a weight: {unknown}"
    absent = sorted(set(weights) - set(terms))
    assert not absent, f"weights without a loss term: {absent}"
    for name, term in terms.items():
        assert term.ndim == 0, f"loss term {name} is not a scalar"
        assert torch.isfinite(term), f"loss term {name} is {float(term.detach())}"
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    total.backward()
    return terms, total, links


def check_training(kit: Kit) -> None:
    """Every term has a weight, the loss is finite, and its gradient reaches every link and no padding."""
    _, _, links = _terms(kit, kit.targets)
    grad = links.embeddings.grad
    assert grad is not None, "no gradient reaches the links"
    assert torch.isfinite(grad).all(), "a gradient of the links is not finite"
    reached = grad.abs().amax((-1, -2)) > 0
    assert bool(reached[links.mask].all()), "some link gets no gradient"
    for name, parameter in kit.decoder.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite"


def check_nothing_to_learn(kit: Kit) -> None:
    """Without objects the count is zero, the loss is finite and backward works."""
    inputs = kit.decoder.prepare(kit.calls)
    assert kit.decoder.count(inputs) == 0, "count is not zero without targets"
    empty = [_emptied(target) for target in kit.targets]
    if any(one is None for one in empty):
        return
    targets = [one for one in empty if one is not None]
    inputs = kit.decoder.prepare(kit.calls, targets)
    assert kit.decoder.count(inputs) == 0, "count is not zero where no target has an object"
    _terms(kit, targets)


def _emptied(target: Artifact) -> Artifact | None:
    """The same label with no object; None for kinds that always have content."""
    if isinstance(target, (Picture, Text)):
        return None
    none = {name: getattr(target, name)[:0] for name in ("xyxy", "scores", "labels")}
    if isinstance(target, Masks):
        return replace(target, masks=target.masks[:0], **none)
    if isinstance(target, Keypoints):
        return replace(target, xyv=target.xyv[:0], **none)
    return replace(target, **none)


def check_weights_round_trip(kit: Kit, *, link_dim: int) -> None:
    """The state dict goes through safetensors and back, strictly, and gives the same answers."""
    state = {name: tensor.contiguous().clone() for name, tensor in kit.decoder.state_dict().items()}
    torch.manual_seed(1)
    other = kit.config.build(link_dim)
    other.load_state_dict(load(save(state)))
    again = replace(kit, decoder=other)
    for call, one, two in zip(kit.calls, kit.run(kit.calls), again.run(kit.calls), strict=True):
        assert_same(one, two, f"{call.id}: before saving and after loading")
