"""What crosses between processes: calls and requests by value, each picture once, by reference.

A picture of 12 MB that three decoders look at is put into the object store once; every node
fetches it at most once, and actors there read the same memory, which nobody can write to.
Links go by value and own what they hold. Nothing with an autograd graph crosses.

A call crosses as bytes: after some milliseconds of nothing to do a processor runs Python several times
slower than in a loop, and Ray's own way to take objects apart, which looks at each of them in Python,
was then the longest part of a hop. Only what may be of any class is left to Ray.
"""

from __future__ import annotations

import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from superlink.agents.pictures import picture_id
from superlink.decoders.artifacts import Artifact
from superlink.decoders.contract import Call, Outcome, Result
from superlink.router.errors import LinkError
from superlink.router.links import SuperLink
from superlink.router.requests import Request
from superlink.router.tokens import RoutingToken

Pixels = NDArray[np.uint8]
STORE_BYTES = 512 * 2**20
SMALL_BYTES = 64 * 2**10  # of arrays; Ray sends what has less than 100 kB without its store


class PictureStore:
    """Pictures of this process in the object store; those that were used least recently are let go."""

    def __init__(self, put: Callable[[Pixels], Any], *, limit: int = STORE_BYTES) -> None:
        self._put = put
        self._limit = limit
        self._refs: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self.puts = 0  # pictures that were put so far

    def ref(self, picture: Pixels, known_id: str = "") -> tuple[str, Any]:
        """The id of a picture and its reference; `known_id` saves computing the hash."""
        name = known_id or picture_id(picture)
        with self._lock:
            if name in self._refs:
                self._refs.move_to_end(name)
            else:
                self._refs[name] = self._put(np.ascontiguousarray(picture)), picture.nbytes
                self._bytes += picture.nbytes
                self.puts += 1
                while self._bytes > self._limit and len(self._refs) > 1:
                    _, (_, size) = self._refs.popitem(last=False)
                    self._bytes -= size
            return name, self._refs[name][0]

    def clear(self) -> None:
        """Let go of all: also what a lost node took along is put again when it is next asked for."""
        with self._lock:
            self._refs.clear()
            self._bytes = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parcel:
    """Requests without their pictures, which travel beside it."""

    content: tuple[Any, ...]
    places: tuple[tuple[int, ...], ...]  # of the pictures of each, in reading order, among all that travel


# For each call what Ray has to take apart itself: artifacts of any size, options of any class.
Rest = tuple[tuple[Any, ...], ...]


def check_links(calls: Sequence[Call]) -> None:
    """Refuse links that cannot leave this process.

    Raises:
        LinkError: one has an autograd graph.
    """
    for call in calls:
        for link in call.links:
            if link.embeddings.requires_grad:
                raise _has_graph(link)


def packed_calls(calls: Sequence[Call], store: PictureStore) -> tuple[bytes, Rest | None, list[Any]]:
    """Calls without pictures; what of them is not plain, None = all is; references to the pictures.

    Raises:
        LinkError: a link has an autograd graph.
    """
    bag = _Bag(store)
    content = [
        (
            call.id,
            [_packed_link(link) for link in call.links],
            None if call.image is None else bag.place(call.image, call.image_id),
            call.image_id,
            call.seed,
            call.threshold,
        )
        for call in calls
    ]
    rest = None
    if any(call.inputs or call.options for call in calls):
        rest = tuple((call.inputs, call.options) for call in calls)
    return pickle.dumps(content, pickle.HIGHEST_PROTOCOL), rest, bag.refs


def unpacked_calls(content: bytes, rest: Rest | None, pictures: Sequence[Pixels]) -> list[Call]:
    """What `packed_calls` packed; its pictures cannot be written to."""
    packed = pickle.loads(content)
    return [
        Call(
            id=name,
            links=tuple(_unpacked_link(*link) for link in links),
            image=None if place is None else pictures[place],
            image_id=image_id,
            inputs=inputs,
            seed=seed,
            threshold=threshold,
            options=options,
        )
        for (name, links, place, image_id, seed, threshold), (inputs, options) in zip(
            packed, rest or [((), {})] * len(packed), strict=True
        )
    ]


def packed_requests(requests: Sequence[Request], store: PictureStore) -> tuple[Parcel, list[Any]]:
    """Requests without pictures, and references to these."""
    bag = _Bag(store)
    content, places = [], []
    for request in requests:
        messages = tuple(replace(message, images=()) for message in request.conversation)
        content.append(replace(request, conversation=messages))
        counts = [len(message.images) for message in request.conversation]
        own = [bag.place(image) for message in request.conversation for image in message.images]
        places.append((*counts, *own))
    return Parcel(content=tuple(content), places=tuple(places)), bag.refs


def unpacked_requests(parcel: Parcel, pictures: Sequence[Pixels]) -> list[Request]:
    """What `packed_requests` packed."""
    requests = []
    for request, places in zip(parcel.content, parcel.places, strict=True):
        counts, own = places[: len(request.conversation)], iter(places[len(request.conversation) :])
        messages = tuple(
            replace(message, images=tuple(pictures[next(own)] for _ in range(count)))
            for message, count in zip(request.conversation, counts, strict=True)
        )
        requests.append(replace(request, conversation=messages))
    return requests


def packed_outcomes(outcomes: list[Outcome]) -> bytes | list[Outcome]:
    """Small outcomes as bytes; large ones as they are, for Ray to put into its store without copies."""
    if sum(map(_size, outcomes)) > SMALL_BYTES:
        return outcomes
    # Protocol 4: from 5 on arrays that nobody may write to come back as such.
    return pickle.dumps(outcomes, 4)


def unpacked_outcomes(answer: bytes | list[Outcome]) -> list[Outcome]:
    """What `packed_outcomes` packed; every array is this process's own."""
    if isinstance(answer, bytes):
        outcomes: list[Outcome] = pickle.loads(answer)
        return outcomes
    return [_owned(one) for one in answer]


def _size(outcome: Outcome) -> int:
    """Bytes of its arrays."""
    if not isinstance(outcome, Result):
        return 0
    values = (getattr(outcome.artifact, one.name) for one in fields(outcome.artifact))
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


def _owned(outcome: Outcome) -> Outcome:
    """An outcome whose arrays are this process's own.

    Arrays that come through the store are views of it: read-only, and as long as one of them lives,
    in a session for example, the store keeps its room.
    """
    if not isinstance(outcome, Result):
        return outcome
    artifact: Artifact = outcome.artifact
    views: dict[str, Any] = {
        one.name: value.copy()
        for one in fields(artifact)
        if isinstance(value := getattr(artifact, one.name), np.ndarray)
    }
    return replace(outcome, artifact=replace(artifact, **views)) if views else outcome


class _Bag:
    """References of one parcel, each once."""

    def __init__(self, store: PictureStore) -> None:
        self._store = store
        self._places: dict[str, int] = {}
        self.refs: list[Any] = []

    def place(self, picture: Pixels, known_id: str = "") -> int:
        name, ref = self._store.ref(picture, known_id)
        if name not in self._places:
            self._places[name] = len(self.refs)
            self.refs.append(ref)
        return self._places[name]


def _packed_link(link: SuperLink) -> tuple[RoutingToken, bytes, tuple[int, ...], torch.dtype, str, int]:
    """A link by value: its own numbers, and nothing of the sequence that they are a view of.

    Raises:
        LinkError: it has an autograd graph.
    """
    embeddings = link.embeddings
    if embeddings.requires_grad:
        raise _has_graph(link)
    numbers = embeddings.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return link.token, numbers, tuple(embeddings.shape), embeddings.dtype, link.phrase, link.position


def _has_graph(link: SuperLink) -> LinkError:
    return LinkError(
        f"the link for {link.phrase!r} has an autograd graph, which cannot leave its process; "
        f"send link.detached(), or train with superlink train"
    )


def _unpacked_link(
    token: RoutingToken,
    numbers: bytes,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    phrase: str,
    position: int,
) -> SuperLink:
    # A copy: torch warns of memory that it may not write to.
    flat: Tensor = (
        torch.frombuffer(bytearray(numbers), dtype=dtype) if numbers else torch.empty(0, dtype=dtype)
    )
    return SuperLink(token=token, embeddings=flat.view(shape), phrase=phrase, position=position)
