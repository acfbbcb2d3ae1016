"""A system as a chat model of LangChain: pictures in the messages, text out, artifacts beside it.

`response_metadata` of a reply has the artifacts and failures as plain data; `model.turn(message)` gives the
`Turn` itself, with arrays and `draw()`, for the latest replies of this model.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import ConfigDict, Field, PrivateAttr, ValidationError

from superlink.agents.asking import Question, answer_live
from superlink.agents.chat_messages import parts_of, read_messages
from superlink.agents.local import LocalEngine
from superlink.agents.model_folder import Model
from superlink.agents.pictures import SourcePicture, picture_id
from superlink.agents.questions import checked_deadline, checked_threshold
from superlink.agents.system import System
from superlink.agents.tools.toolbox import wrong_arguments
from superlink.agents.turn import Turn
from superlink.router.errors import InputError
from superlink.router.requests import Finished, GenerateOptions, TextDelta
from superlink.router.tokens import ROUTING_TEXTS
from superlink.router.vision import tile_count

PROVIDER = "superlink"
_REASONS = {"end": "stop", "stop": "stop", "length": "length"}


class SystemChatModel(BaseChatModel):
    """Invoked, batched and streamed as any chat model. A setting that is None is the system's own."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    system: System = Field(exclude=True, repr=False)
    model_name: str
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0.0)
    top_p: float | None = Field(None, gt=0.0, le=1.0)
    seed: int | None = Field(None, ge=0)
    stop: list[str] | None = None
    threshold: float | None = Field(None, ge=0.0, le=1.0)  # least score of an item
    deadline: float | None = Field(None, gt=0.0)  # seconds for a whole reply
    keep_turns: int = Field(32, ge=0)  # how many replies `turn` still knows

    _turns: OrderedDict[str, Turn] = PrivateAttr(default_factory=OrderedDict)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    @classmethod
    def of(cls, system: System, **settings: Any) -> SystemChatModel:
        """The chat model of a system.

        Raises:
            InputError: no such setting, or a value that it cannot have.
        """
        try:
            return cls(**{"system": system, "model_name": system.name or PROVIDER, **settings})
        except ValidationError as error:
            raise InputError(f"settings of a chat model: {wrong_arguments(error)}") from error

    @property
    def _llm_type(self) -> str:
        return PROVIDER

    @property
    def _identifying_params(self) -> dict[str, Any]:
        names = ("model_name", *_SETTINGS)
        return {name: getattr(self, name) for name in names}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        return {**params, "ls_provider": PROVIDER}

    def turn(self, message: BaseMessage) -> Turn:
        """What a reply of this model gave: artifacts with arrays, `draw()`, `save()`.

        Raises:
            InputError: the message is not of this model, or older than its last `keep_turns` replies.
        """
        found = self._known(message)
        if found is None:
            raise InputError(
                f"no turn is kept for this message; the model keeps those of its last {self.keep_turns} "
                f"replies, and `response_metadata['artifacts']` has the plain data of any"
            )
        return found

    def get_token_ids(self, text: str) -> list[int]:
        """The router's ids of a text; LangChain's own way would fetch a tokenizer of another model.

        Raises:
            InputError: no string, or the router's words are not in this process.
        """
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        if not isinstance(text, str):
            raise InputError(f"tokens are counted of a string, got {type(text).__name__}")
        return _model_of(self.system).tokenizer.encode(text)

    def get_num_tokens_from_messages(
        self, messages: Sequence[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Positions that the words and pictures of messages take; each is counted on its own.

        What stands between messages is not in it, so `usage_metadata` of a reply says a little more.

        Raises:
            InputError: a message cannot be read, there are tools, or the router's words are elsewhere.
        """
        if tools:
            raise InputError("this model calls no tools, so they have no tokens; count the messages alone")
        total = 0
        for number, message in enumerate(messages, start=1):
            try:
                words, pictures = parts_of(message)
            except InputError as error:
                raise InputError(f"message {number}: {error}") from error
            total += len(self.get_token_ids(words))
            if pictures:
                config = _model_of(self.system).router.config
                sizes = [one.size for one in pictures]
                tiles = sum(tile_count(width, height, config) for height, width in sizes)
                total += tiles * config.tokens_per_tile
        return total

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Refused: the model calls its own decoders and no tools.

        Raises:
            InputError: always.
        """
        raise InputError(
            "this model hands work to its own decoders and calls no tools; give `system.tools()` to a chat "
            "model that does"
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        writing = self._write(messages, stop, kwargs)
        while True:
            try:
                next(writing)
            except StopIteration as done:
                turn, metadata, usage = done.value
                break
        message = AIMessage(content=turn.text, response_metadata=metadata, usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        _, metadata, usage = yield from self._write(messages, stop, kwargs)
        last = AIMessageChunk(
            content="", response_metadata=metadata, usage_metadata=usage, chunk_position="last"
        )
        yield ChatGenerationChunk(message=last)

    def _write(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, settings: dict[str, Any]
    ) -> Generator[ChatGenerationChunk, None, tuple[Turn, dict[str, Any], UsageMetadata | None]]:
        """A reply while it is written; then its turn, metadata and usage."""
        chosen = self._chosen(settings)
        read = read_messages(
            messages,
            model_name=self.model_name,
            routing_texts=self._routing_texts(),
            made=self._made,
        )
        question = Question(
            conversation=read.conversation,
            picture=read.picture,
            threshold=checked_threshold(chosen["threshold"]),
            deadline=checked_deadline(chosen["deadline"]),
        )
        options = self._options(chosen, self.stop if stop is None else stop)
        answering = answer_live(self.system.engine, [question], options)
        finished: Finished | None = None
        try:
            while True:
                event = next(answering)
                if isinstance(event, TextDelta):
                    yield ChatGenerationChunk(message=AIMessageChunk(content=event.text))
                elif isinstance(event, Finished):
                    finished = event
        except StopIteration as done:
            (turn,) = done.value
        finally:
            answering.close()
        return turn, self._metadata(turn, finished), _usage(finished)

    def _metadata(self, turn: Turn, finished: Finished | None) -> dict[str, Any]:
        plain = turn.to_json()
        return {
            "model_name": self.model_name,
            "model_provider": PROVIDER,
            "finish_reason": "deadline" if finished is None else _REASONS[finished.reason],
            "raw": turn.raw,
            "turn": self._keep(turn),
            **{name: plain[name] for name in ("artifacts", "failures", "timings")},
        }

    def _chosen(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings of one reply: those of the call, else those of the model."""
        given = {name: value for name, value in settings.items() if name != "stream"}
        unknown = [name for name in given if name not in _SETTINGS]
        if unknown:
            why = "; it calls no tools" if unknown[0] in ("tools", "tool_choice") else ""
            raise InputError(
                f"this chat model has no setting {unknown[0]!r}{why}; it has {', '.join(_SETTINGS)}"
            )
        return {name: given.get(name, getattr(self, name)) for name in _SETTINGS}

    def _options(self, chosen: dict[str, Any], stop: list[str] | None) -> GenerateOptions:
        base = self.system.options
        if stop is not None and not isinstance(stop, list | tuple):
            raise InputError(f"stop is a list of strings, got {stop!r}")

        def own(name: str, usual: Any) -> Any:
            return usual if chosen[name] is None else chosen[name]

        return replace(
            base,
            max_new_tokens=own("max_tokens", base.max_new_tokens),
            temperature=own("temperature", base.temperature),
            top_p=own("top_p", base.top_p),
            seed=own("seed", base.seed),
            stop=base.stop if stop is None else tuple(stop),
        )

    def _routing_texts(self) -> tuple[str, ...]:
        own = [route.token.text for config in self.system.decoders for route in config.routes]
        return tuple(dict.fromkeys([*ROUTING_TEXTS, *own]))

    def _keep(self, turn: Turn) -> str:
        name = uuid.uuid4().hex
        with self._lock:
            self._turns[name] = turn
            while len(self._turns) > self.keep_turns:
                self._turns.popitem(last=False)
        return name

    def _known(self, message: BaseMessage) -> Turn | None:
        with self._lock:
            return self._turns.get(str(message.response_metadata.get("turn", "")))

    def _made(self, message: AIMessage) -> SourcePicture | None:
        turn = self._known(message)
        if turn is None or turn.picture is None:
            return None
        pixels = turn.picture.pixels
        return SourcePicture(pixels=pixels, id=picture_id(pixels), name=turn.picture.origin.id)


def _model_of(system: System) -> Model:
    """The models of a system that runs in this process.

    Raises:
        InputError: its engine keeps them elsewhere.
    """
    if not isinstance(system.engine, LocalEngine):
        raise InputError(
            f"{type(system.engine).__name__} keeps the router's words in another process; count tokens with "
            f"a system of the local engine, or pass token_counter='approximate'"
        )
    return system.engine.model


_SETTINGS = ("max_tokens", "temperature", "top_p", "seed", "threshold", "deadline")


def _usage(finished: Finished | None) -> UsageMetadata | None:
    if finished is None:
        return None
    read, written = finished.reply.prompt_length, len(finished.reply.token_ids)
    return UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)
