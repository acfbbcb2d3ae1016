"""One batch of questions from messages to turns: the way of every question through the system.

The router writes all replies in one batched generation; decoders start on links as they come;
every outcome lands in the turn of its own question.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from superlink.agents.dispatch import Dispatcher, Task
from superlink.agents.engine import Engine
from superlink.agents.options import DecoderOptions
from superlink.agents.pictures import SourcePicture
from superlink.agents.regions import Region
from superlink.agents.trace import traced
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Artifact, Origin
from superlink.decoders.contract import Failure, Outcome, Result
from superlink.router.errors import InputError, LostError
from superlink.router.links import Reply
from superlink.router.messages import Conversation
from superlink.router.requests import Event, Finished, GenerateOptions, LinkReady, Request, TextDelta


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """One question with all that it builds on."""

    conversation: Conversation  # ends with the question
    picture: SourcePicture | None = None  # what the decoders look at
    refs: tuple[Artifact, ...] = ()  # earlier artifacts that the question speaks of
    regions: Mapping[str, Region] = field(default_factory=dict)  # prompts on the picture, by their names
    options: DecoderOptions = field(default_factory=dict)
    threshold: float | None = None
    deadline: float | None = None  # seconds from the start
    round: int = 0
    taken: Mapping[str, int] = field(default_factory=dict)  # artifacts of each kind so far


@dataclass(slots=True)
class _Written:
    """What the router has written of one reply."""

    text: list[str] = field(default_factory=list)
    reply: Reply | None = None
    cut: bool = False  # at the most tokens that it might have


def answer_all(engine: Engine, questions: Sequence[Question], options: GenerateOptions) -> list[Turn]:
    """A turn for every question; one that cannot be run has its `error` and spares the others."""
    if not questions:
        return []
    try:
        return answer(engine, questions, options)
    except InputError as error:
        if len(questions) == 1:
            return [failed(questions[0].picture, str(error))]
        return [turn for question in questions for turn in answer_all(engine, [question], options)]


def answer(
    engine: Engine, questions: Sequence[Question], options: GenerateOptions, *, early: bool = True
) -> list[Turn]:
    """A turn for every question, from one batched generation.

    Args:
        early: start decoders while the router still writes, as soon as their calls look complete.

    Raises:
        InputError: a question cannot be encoded; nothing was generated.
        BusyError: too many wait for the router already; nothing was generated.
    """
    answering = answer_live(engine, questions, options, early=early)
    while True:
        try:
            next(answering)
        except StopIteration as done:
            turns: list[Turn] = done.value
            return turns


def answer_live(
    engine: Engine, questions: Sequence[Question], options: GenerateOptions, *, early: bool = True
) -> Generator[Event, None, list[Turn]]:
    """As `answer`, and shows what the router writes while it writes. Closing it stops the router.

    Yields:
        Every event of the router, after decoders have got what is theirs.
    """
    start = time.monotonic()
    engine = traced(engine)
    tasks = [_task(question, options, start) for question in questions]
    dispatcher = Dispatcher(engine, tasks, early=early)
    limit = _common_deadline(tasks)
    written = [_Written() for _ in questions]
    patience = None if limit is None else max(limit - time.monotonic(), 0.0)
    requests = [
        Request(conversation=one.conversation, options=options, deadline=patience) for one in questions
    ]
    error = Failure(
        call_id="router", error="the router did not finish its reply within the deadline", kind="timeout"
    )
    try:
        with closing(engine.stream(requests)) as events:
            try:
                for event in events:
                    match event:
                        case TextDelta():
                            written[event.row].text.append(event.text)
                            dispatcher.text(event.row, event.text)
                        case LinkReady():
                            dispatcher.link(event.row, event.link)
                        case Finished():
                            written[event.row].reply = event.reply
                            written[event.row].cut = event.reason == "length"
                            dispatcher.written(event.row)
                    yield event
                    if limit is not None and time.monotonic() > limit:
                        break
            except LostError as lost:
                # What it has written so far stays, and so does what decoders make of it.
                error = Failure(call_id="router", error=str(lost), kind="lost")
        dispatcher.finish()
        seconds = time.monotonic() - start
        return [
            _turn(question, written[row], dispatcher.outcomes(row), seconds, error)
            for row, question in enumerate(questions)
        ]
    finally:
        # What is still on its way is for nobody: the deadline is over, or the caller has left.
        dispatcher.cancel()


def failed(picture: SourcePicture | None, error: str) -> Turn:
    """The turn of a question that could not be run."""
    return Turn(text="", raw="", image=picture, error=error)


def _task(question: Question, options: GenerateOptions, start: float) -> Task:
    picture = question.picture
    return Task(
        image=None if picture is None else picture.pixels,
        image_id="" if picture is None else picture.id,
        inputs=question.refs,
        regions=question.regions,
        options=question.options,
        seed=options.seed,
        threshold=question.threshold,
        deadline=None if question.deadline is None else start + question.deadline,
    )


def _common_deadline(tasks: Sequence[Task]) -> float | None:
    """When the generation stops: replies of a batch are written together, so at the last deadline."""
    deadlines = [task.deadline for task in tasks]
    given = [deadline for deadline in deadlines if deadline is not None]
    return max(given) if len(given) == len(deadlines) else None


def _turn(
    question: Question,
    written: _Written,
    outcomes: Sequence[Outcome],
    router_seconds: float,
    unfinished: Failure,
) -> Turn:
    counts = dict(question.taken)
    timings = {"router": router_seconds}
    artifacts: list[Artifact] = []
    failures: list[Failure] = []
    if written.reply is None:
        failures.append(unfinished)
    for outcome in outcomes:
        if not isinstance(outcome, Result):
            failures.append(outcome)
            continue
        decoder = outcome.call_id.rpartition(".")[0]
        # Calls that ran in one forward pass all report its seconds.
        timings[decoder] = max(timings.get(decoder, 0.0), outcome.seconds)
        kind = kind_of(outcome.artifact)
        counts[kind] = counts.get(kind, 0) + 1
        origin = Origin(
            id=f"{kind}-{counts[kind]}",
            source="" if question.picture is None else question.picture.id,
            decoder=decoder,
            round=question.round,
        )
        artifacts.append(replace(outcome.artifact, origin=origin))
    text = "".join(written.text)
    return Turn(
        text=text if written.reply is None else written.reply.text,
        raw=text if written.reply is None else written.reply.raw,
        artifacts=tuple(artifacts),
        failures=tuple(failures),
        image=question.picture,
        round=question.round,
        timings=timings,
        cut=written.cut,
    )


def kind_of(artifact: Artifact) -> str:
    """ "boxes", "masks", ...: the first part of an artifact's id."""
    return type(artifact).__name__.lower()
