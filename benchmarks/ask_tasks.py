"""Questions for `benchmarks/ask.py`: one of every task, and what a trained router replies to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from superlink.decoders.contract import DecoderConfig
from superlink.decoders.unipose import UniPoseConfig
from superlink.router.config import RouterConfig
from superlink.router.templates import chat_template
from superlink.router.tokenizer import RouterTokenizer, answer_markup
from superlink.workflows.data.instructions.answers import answer, routing_of
from superlink.workflows.data.scene_tasks.poses import KEYPOINTS, pose_answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One question."""

    instruction: str
    reply: str
    returns: str  # type of the artifact in the answer's JSON; "" = words alone
    picture: bool = True  # the question is about one

    def ids(self, router: RouterConfig, tokenizer: RouterTokenizer) -> tuple[int, ...]:
        """The reply as the router writes it, its end included."""
        template = chat_template(router.template)
        markup = answer_markup(token.text for token in router.tokens)
        words = tokenizer.encode(template.answer_start + self.reply, markup=markup)
        return (*words, tokenizer.id_of(template.answer_end))


def tasks_of(decoders: Sequence[DecoderConfig]) -> dict[str, Task]:
    """The tasks whose routing tokens some decoder answers, by name."""
    tasks = {
        "find": Task(
            instruction="Find every red circle.", reply=answer([("[DET]", "red circle")]), returns="boxes"
        ),
        "segment": Task(instruction="Outline the star.", reply=answer([("[SEG]", "star")]), returns="masks"),
        "pose": Task(
            instruction="Find the keypoints of every person.",
            reply=pose_answer(["person"], _keypoints(decoders)),
            returns="keypoints",
        ),
        "generate": Task(
            instruction="Paint a blue star.",
            reply=answer([("[GEN]", "a blue star")]),
            returns="picture",
            picture=False,
        ),
        "edit": Task(
            instruction="Make the star green.",
            reply=answer([("[EDIT]", "make the star green")]),
            returns="picture",
        ),
        "caption": Task(
            instruction="Describe the picture.",
            reply="I see two red circles, a blue square, a yellow star and a person.",
            returns="",
        ),
    }
    known = {route.token.text for config in decoders for route in config.routes}
    return {
        name: task
        for name, task in tasks.items()
        if all(token in known for token, _ in routing_of(task.reply))
    }


def _keypoints(decoders: Sequence[DecoderConfig]) -> tuple[str, ...]:
    """All that people have, as far as the model finds them in one call."""
    for config in decoders:
        if isinstance(config, UniPoseConfig):
            return (config.keypoint_names or KEYPOINTS)[: config.max_keypoints]
    return KEYPOINTS
