"""Many questions about one picture, one after the other: it is looked at once and every answer is learned."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from superlink.router.messages import Message
from superlink.workflows.data.instructions.grammar import Split
from superlink.workflows.data.samples import Sample
from superlink.workflows.data.scene_tasks.answers import short_answer
from superlink.workflows.data.scene_tasks.captions import caption
from superlink.workflows.data.scene_tasks.questions import KINDS, asked
from superlink.workflows.data.scene_tasks.world import OnlyScene, World

FEWEST, MOST = 4, 8  # questions
_CAPTIONED = 0.25  # share of quizzes that end with a caption
_TRIES = 4  # for each question


def quiz(rng: Random, split: Split, world: World) -> Sample | None:
    """Questions of all kinds about the scene that suits the first one; its task is "quiz".

    Answers of the first question are balanced as those of `question`; the others are as the scene has them.
    """
    first = asked(rng, split, world, rng.choice(KINDS))
    if first is None:
        return None
    text, reply, seen = first
    only = replace(seen, is_only=True)
    told = {text: reply}
    count = rng.randrange(FEWEST, MOST + 1)
    for _ in range(_TRIES * count):
        if len(told) >= count:
            break
        try:
            found = asked(rng, split, only, rng.choice(KINDS))
        except OnlyScene:
            continue
        if found is not None:
            told.setdefault(found[0], found[1])
    if rng.random() < _CAPTIONED:
        described = caption(rng, split, only)
        told[described.conversation[0].text] = described.conversation[1].text
    image = seen.pixels(seen.scene)
    messages: list[Message] = []
    for number, (text, reply) in enumerate(told.items()):
        messages += [
            Message(role="user", text=text, images=() if number else (image,)),
            Message(role="assistant", text=reply),
        ]
    return Sample(
        conversation=tuple(messages), image=image, targets=(), task="quiz", answer=short_answer(reply)
    )
