"""Tasks that are asked as samples: keypoints, answers in words, captions, clicks, made and edited pictures.

A sample's task names what is measured ("pose", "vqa/color", "edit/recolor"); its answer (without one, its
last message) and its targets are the truth. Everything is free-running: only the question is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Artifact, Keypoints, Masks, Picture
from superlink.router.errors import InputError
from superlink.router.tokens import ROUTING_TEXTS
from superlink.workflows.data.samples import Dataset, Sample, iterate
from superlink.workflows.eval.answering import Answer, Progress, answered, question_of
from superlink.workflows.eval.finding import Asked, keypoints
from superlink.workflows.eval.interactive import interactive, kind_of
from superlink.workflows.eval.language import answers, captions
from superlink.workflows.eval.pictures import EditKind, asked_edit, edits, generation, names_asked
from superlink.workflows.eval.report import Metric

TASKS = ("keypoints", "vqa", "captions", "interactive", "generation", "edits")
# The routing token without whose decoder a part cannot be answered; words need none.
NEEDS: dict[str, str] = {
    "boxes": "[DET]",
    "masks": "[SEG]",
    "grounding": "[GRD]",
    "foreign": "[DET]",
    "foreign-people": "[POSE]",
    "keypoints": "[POSE]",
    "interactive": "[SEG]",
    "generation": "[GEN]",
    "edits": "[EDIT]",
}
# Parts that any system answers in some words, whether or not it was taught to: by default, only one that
# writes every routing token is asked, as in the part "routing".
SPOKEN = ("vqa", "captions")
Kind = TypeVar("Kind", Keypoints, Masks, Picture)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answered:
    """A sample and what a system gave to its question."""

    sample: Sample
    turn: Turn

    @property
    def kind(self) -> str:
        """What follows the slash of the task: "color" of "vqa/color"."""
        return self.sample.task.partition("/")[2]

    @property
    def truth(self) -> str:
        """What a right reply says."""
        answer = self.sample.answer
        return self.sample.conversation[-1].text if answer is None else answer

    @property
    def pixels(self) -> Any:
        """The picture that was made, or None."""
        return None if self.turn.picture is None else self.turn.picture.pixels

    def target(self, kind: type[Kind]) -> Kind:
        """The first target of a kind; errors as of `target_of`."""
        return target_of(self.sample, kind)


def target_of(sample: Sample, kind: type[Kind]) -> Kind:
    """The first target of a kind.

    Raises:
        InputError: the sample has none.
    """
    for target in sample.targets:
        if isinstance(target.artifact, kind):
            return target.artifact
    have: Sequence[type[Artifact]] = [type(target.artifact) for target in sample.targets]
    raise InputError(
        f"sample {sample.source!r} of task {sample.task!r} needs a target of {kind.__name__} "
        f"to be scored, it has {', '.join(one.__name__ for one in have) or 'none'}"
    )


def unanswered(parts: Collection[str], tokens: Collection[str]) -> dict[str, str]:
    """The parts that a system without a decoder for their routing token cannot do, with that token."""
    return {part: NEEDS[part] for part in parts if part in NEEDS and NEEDS[part] not in tokens}


def writes_everything(tokens: Collection[str]) -> bool:
    """Whether a system with these routing tokens learned every task, those answered in words included."""
    return set(tokens) >= set(ROUTING_TEXTS)


def measured(
    answer: Answer, part: str, samples: Dataset, *, batch: int = 8, progress: Progress | None = None
) -> list[Metric]:
    """The metrics of one part.

    Args:
        answer: what is evaluated.
        part: one of `TASKS`.
        samples: conversations that end with the right reply, and targets.
        batch: questions of one generation.
        progress: told of answered questions.

    Raises:
        InputError: a sample lacks what its part is scored by.
    """
    if part == "keypoints":
        return keypoints(answer, _people(samples), batch, progress, of_people=True)
    questions = (question_of(sample.conversation[:-1], sample.image) for sample in iterate(samples))
    turns = answered(answer, questions, batch, progress)
    results = [
        Answered(sample=sample, turn=turn) for sample, turn in zip(iterate(samples), turns, strict=True)
    ]
    return _SCORES[part](results)


def _people(samples: Dataset) -> Iterator[Asked[Keypoints]]:
    for sample in iterate(samples):
        question = question_of(sample.conversation[:-1], sample.image)
        yield Asked(question=question, truth=target_of(sample, Keypoints))


def _vqa(results: Sequence[Answered]) -> list[Metric]:
    texts, truths = [one.turn.text for one in results], [one.truth for one in results]
    return answers(texts, truths, [one.kind for one in results])


def _captions(results: Sequence[Answered]) -> list[Metric]:
    return captions([one.turn.text for one in results], [one.truth for one in results])


def _interactive(results: Sequence[Answered]) -> list[Metric]:
    kinds = []
    for one in results:
        prompts = [prompt for message in one.sample.conversation for prompt in message.prompts]
        if not prompts:
            raise InputError(
                f"sample {one.sample.source!r} has no point, box, scribble or mask to be scored by"
            )
        kinds.append(kind_of(prompts[-1]))
    return interactive(kinds, [one.turn.masks for one in results], [one.target(Masks) for one in results])


def _generation(results: Sequence[Answered]) -> list[Metric]:
    asked = [names_asked(one.target(Picture).pixels) for one in results]
    return generation([one.pixels for one in results], asked)


def _edits(results: Sequence[Answered]) -> list[Metric]:
    asked, made = [], []
    for one in results:
        kind, before = one.kind, one.sample.image
        if kind not in get_args(EditKind) or before is None:
            raise InputError(
                f"sample {one.sample.source!r} of task {one.sample.task!r} is no edit that can be scored; "
                f"it needs a picture and a task of edit/{', edit/'.join(get_args(EditKind))}"
            )
        edit = asked_edit(kind, before, one.target(Picture).pixels)  # type: ignore[arg-type]  # checked
        if edit is not None:
            asked.append(edit)
            made.append(one.pixels)
    return edits(asked, made)


_SCORES: dict[str, Callable[[Sequence[Answered]], list[Metric]]] = {
    "vqa": _vqa,
    "captions": _captions,
    "interactive": _interactive,
    "generation": _generation,
    "edits": _edits,
}
