"""The seam between evaluation and what is evaluated: questions in, turns out, nothing forced.

Every metric here sees only what a user would get: the reply that the router wrote by itself and
the artifacts that followed from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from superlink.agents.asking import Question, answer_all
from superlink.agents.pictures import SourcePicture, read_picture
from superlink.agents.regions import Region, region_input, region_names
from superlink.agents.system import System
from superlink.agents.turn import Turn
from superlink.router.messages import Conversation, ImageArray, Message
from superlink.router.requests import GenerateOptions

Answer = Callable[[Sequence[Question]], Sequence[Turn]]
Progress = Callable[[int], None]  # called with the number of questions answered since the last call


def answers_of(system: System) -> Answer:
    """Greedy answers, as long as any user's, of a whole system; a failing question has no artifacts."""
    options = GenerateOptions()

    def answer(questions: Sequence[Question]) -> Sequence[Turn]:
        return answer_all(system.engine, questions, options)

    return answer


def question(text: str, image: ImageArray) -> Question:
    """One instruction about one picture."""
    return question_of((Message(role="user", text=text, images=(image,)),), image)


def listed(names: Sequence[str]) -> str:
    """Names as a plain sentence has them: "circles, stars and hearts"."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if names[1:] else names[0]


def question_of(conversation: Conversation, image: ImageArray | None) -> Question:
    """The last user message of a conversation, with all that came before it and all that was pointed out."""
    if image is None:
        return Question(conversation=conversation)
    picture = read_picture(image)
    return Question(conversation=conversation, picture=picture, regions=_regions(conversation, picture))


def _regions(conversation: Conversation, picture: SourcePicture) -> dict[str, Region]:
    """Prompts that lie on the picture, under the names that the router reads, as a session gives them."""
    regions: dict[str, Region] = {}
    seen: ImageArray | None = None
    for index, message in enumerate(conversation):
        seen = message.images[-1] if message.images else seen
        names = region_names(conversation[:index], len(message.prompts))
        if seen is not None and read_picture(seen).id == picture.id:
            drawn = zip(names, message.prompts, strict=True)
            regions |= {name: region_input(prompt, name, picture.size) for name, prompt in drawn}
    return regions


def answered(
    answer: Answer, questions: Iterator[Question], batch: int, progress: Progress | None = None
) -> Iterator[Turn]:
    """A turn for every question, asked `batch` at a time."""
    waiting: list[Question] = []
    for one in questions:
        waiting.append(one)
        if len(waiting) == batch:
            yield from _ask(answer, waiting, progress)
            waiting = []
    if waiting:
        yield from _ask(answer, waiting, progress)


def _ask(answer: Answer, questions: Sequence[Question], progress: Progress | None) -> Sequence[Turn]:
    turns = answer(questions)
    if progress is not None:
        progress(len(questions))
    return turns
