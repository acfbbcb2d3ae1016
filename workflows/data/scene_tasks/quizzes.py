"""Many questions about one picture, one after the other: it is looked at once and every answer is learned."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from superlink.router.messages import ImageArray, Message
from superlink.workflows.data.instructions.grammar import Split
from superlink.workflows.data.samples import Look, Sample
from superlink.workflows.data.scene_tasks.answers import short_answer
from superlink.workflows.data.scene_tasks.captions import caption
from superlink.workflows.data.scene_tasks.looks import everything
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
    only = replace(first.world, is_only=True)
    told = {first.text: first}
    count = rng.randrange(FEWEST, MOST + 1)
    for _ in range(_TRIES * count):
        if len(told) >= count:
            break
        try:
            found = asked(rng, split, only, rng.choice(KINDS))
        except OnlyScene:
            continue
        if found is not None:
            told.setdefault(found.text, found)
    image = only.pixels(only.scene)
    messages: list[Message] = []
    looks: list[Look] = []
    for one in told.values():
        looks += one.looks(len(messages))
        messages += _round(one.text, one.reply, image if not messages else None)
    if rng.random() < _CAPTIONED:
        described = caption(rng, split, only)
        looks += [replace(look, message=look.message + len(messages)) for look in described.looks]
        question, reply = described.conversation
        messages += _round(question.text, reply.text, None)
    return Sample(
        conversation=tuple(messages),
        image=image,
        targets=(),
        task="quiz",
        answer=short_answer(messages[-1].text),
        shown=everything(only.scene),
        looks=tuple(looks),
    )


def _round(text: str, reply: str, image: ImageArray | None) -> tuple[Message, Message]:
    images = () if image is None else (image,)
    return Message(role="user", text=text, images=images), Message(role="assistant", text=reply)
