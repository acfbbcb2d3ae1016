"""Conversations to learn are those that a session has when the same is asked and answered."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future
from functools import cache
from random import Random

import numpy as np
import torch

from superlink.agents.session import Session
from superlink.decoders.artifacts import Picture
from superlink.decoders.contract import Call, DecoderConfig, Outcome, Result
from superlink.decoders.diffusion.tiny import tiny_instruct_pix2pix
from superlink.router.encoding import encode
from superlink.router.links import Reply, SuperLink
from superlink.router.messages import ImageArray
from superlink.router.requests import Event, Finished, LinkReady, Request
from superlink.workflows.data.instructions.answers import routing_of, without_tags
from superlink.workflows.data.samples import Sample
from superlink.workflows.data.scene_tasks import World
from superlink.workflows.data.scene_tasks.rounds import follow_up
from tests.agents.tiny_model import router_config, tokenizer
from tests.workflows.data.streams import SMALL


class Recorded:
    """An engine that replies as a sample does, and makes the pictures that the sample goes on with."""

    def __init__(self, sample: Sample) -> None:
        self.decoders: tuple[DecoderConfig, ...] = (tiny_instruct_pix2pix(),)
        self.requests: list[Request] = []
        self._replies = [one.text for one in sample.conversation if one.role == "assistant"]
        self._pictures: list[ImageArray] = [image for one in sample.conversation[2:] for image in one.images]

    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        self.requests += requests
        raw = self._replies[len(self.requests) - 1]
        (route,) = self.decoders[0].routes
        width = route.token.num_links
        links = [
            SuperLink(token=route.token, embeddings=torch.zeros(width, 4), phrase=phrase, position=0)
            for token, phrase in routing_of(raw)
            if token == "[EDIT]" and self._pictures
        ]
        for link in links:
            yield LinkReady(row=0, link=link)
        reply = Reply(text=without_tags(raw), raw=raw, links=tuple(links), token_ids=())
        yield Finished(row=0, reply=reply, reason="stop")

    def submit(self, decoder: str, calls: Sequence[Call]) -> Future[list[Outcome]]:
        done: Future[list[Outcome]] = Future()
        done.set_result(
            [Result(call_id=call.id, artifact=Picture(pixels=self._pictures.pop(0))) for call in calls]
        )
        return done

    def close(self) -> None: ...


@cache
def samples() -> tuple[Sample, ...]:
    found = [
        follow_up(Random(f"served {seed}"), "train", World(seed=seed, config=SMALL)) for seed in range(60)
    ]
    return tuple(sample for sample in found if sample is not None)


def test_a_session_with_the_same_rounds_asks_the_router_the_same() -> None:
    config = router_config(tokenizer())
    edited = marked = 0
    for sample in samples():
        engine = Recorded(sample)
        session = Session(engine)
        questions = [one for one in sample.conversation if one.role == "user"]
        for number, question in enumerate(questions):
            image = question.images[0] if number == 0 else None
            session.ask(question.text, image=image, prompts=question.prompts)
        served, learned = engine.requests[-1].conversation, sample.conversation[:-1]
        assert [(one.role, one.text, one.prompts) for one in served] == [
            (one.role, one.text, one.prompts) for one in learned
        ]
        one, other = (
            encode(messages, tokenizer(), config, training=False, limit=4096)
            for messages in (served, learned)
        )
        torch.testing.assert_close(one.input_ids, other.input_ids, atol=0, rtol=0)
        assert one.tile_counts == other.tile_counts
        assert one.region_images == other.region_images
        assert one.tiles is not None
        assert other.tiles is not None
        torch.testing.assert_close(one.tiles, other.tiles, atol=0, rtol=0)
        # What decoders look at is the picture that the session is about.
        assert session.picture is not None
        if sample.task not in ("follow_up/recolor", "follow_up/remove"):
            np.testing.assert_array_equal(session.picture.pixels, sample.image)
        edited += sum(len(question.images) for question in questions) > 1
        marked += any(question.prompts for question in questions[1:])
    assert edited > 5
    assert marked > 5
