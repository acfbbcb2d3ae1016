"""Messages of LangChain as a conversation of the router.

What this model wrote itself goes back as it wrote it, with routing tokens; what another model or a person
put into its mouth goes back as plain words, so that nobody can smuggle in a routing token. Pictures come
as data, never as addresses: nothing is fetched.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from superlink.agents.pictures import SourcePicture, read_picture
from superlink.router.errors import InputError
from superlink.router.messages import Conversation, Message
from superlink.router.phrases import parse_reply


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadMessages:
    """What the messages of a chat come to."""

    conversation: Conversation  # ends with the question
    picture: SourcePicture | None  # what the question is about


def read_messages(
    messages: Sequence[BaseMessage],
    *,
    model_name: str,
    routing_texts: Collection[str],
    made: Callable[[AIMessage], SourcePicture | None],
) -> ReadMessages:
    """The conversation that the messages are.

    Neighbours of one role count as one message. A question without a picture is about the one that was
    shown or made last.

    Args:
        messages: the system's words if there are any, then people and the model in turns.
        model_name: whose replies are this model's own.
        routing_texts: routing tokens of the system.
        made: the picture that a reply of this model came with, where it is still known.

    Raises:
        InputError: a message that this model cannot read, or no question at the end.
    """
    reader = _Reader()
    for number, message in enumerate(messages, start=1):
        try:
            match message:
                case SystemMessage():
                    reader.system(_words_only(message))
                case HumanMessage():
                    reader.person(*parts_of(message))
                case AIMessage():
                    if message.tool_calls:
                        raise InputError("it calls tools, which this model does not know")
                    reader.model(_reply(message, model_name, routing_texts), made(message))
                case _:
                    raise InputError(
                        f"a {type(message).__name__} has no place here; system, human and AI messages have"
                    )
        except InputError as error:
            raise InputError(f"message {number}: {error}") from error
    return reader.done()


@dataclass(slots=True)
class _Reader:
    """The conversation as it grows."""

    messages: list[Message] = field(default_factory=list)
    current: SourcePicture | None = None  # what the next question is about
    shown: str = ""  # id of the picture that the router saw last

    def system(self, text: str) -> None:
        if any(message.role != "system" for message in self.messages):
            raise InputError("the system speaks before everybody else; put its words into the question")
        self._add(Message(role="system", text=text))

    def person(self, text: str, pictures: Sequence[SourcePicture]) -> None:
        if pictures:
            self.current = pictures[-1]
        looked = list(pictures) or ([] if self.current is None else [self.current])
        if [one.id for one in looked] == [self.shown]:
            looked = []  # the picture that was seen last is not sent again
        if looked:
            self.shown = looked[-1].id
        self._add(Message(role="user", text=text.strip(), images=tuple(one.pixels for one in looked)))

    def model(self, text: str, made: SourcePicture | None) -> None:
        if not self.messages or self.messages[-1].role == "system":
            raise InputError("a conversation begins with a person, this one with a reply")
        self._add(Message(role="assistant", text=text))
        self.current = made or self.current

    def done(self) -> ReadMessages:
        if not self.messages or self.messages[-1].role != "user":
            raise InputError("the last message is the question, from a person")
        if not self.messages[-1].text:
            raise InputError("the question has no words; say what to do, for example 'Find every star.'")
        return ReadMessages(conversation=tuple(self.messages), picture=self.current)

    def _add(self, message: Message) -> None:
        last = self.messages[-1] if self.messages else None
        if last is None or last.role != message.role:
            self.messages.append(message)
            return
        words = "\n".join(text for text in (last.text, message.text) if text)
        joined = Message(role=last.role, text=words, images=(*last.images, *message.images))
        self.messages[-1] = joined


def _reply(message: AIMessage, model_name: str, routing_texts: Collection[str]) -> str:
    """The words of a reply, with routing tokens where this model wrote them and nobody changed them."""
    said = _words_only(message)
    known = message.response_metadata
    raw = known.get("raw")
    if known.get("model_name") == model_name and isinstance(raw, str):
        read = parse_reply(raw, routing_texts).text
        if read.split() == said.split():
            return raw
    return parse_reply(said, routing_texts).text


def _words_only(message: BaseMessage) -> str:
    text, pictures = parts_of(message)
    if pictures:
        raise InputError("pictures are read from human messages alone")
    return text


def parts_of(message: BaseMessage) -> tuple[str, list[SourcePicture]]:
    """The words and the pictures of one message.

    Raises:
        InputError: a block that is neither, or a picture that cannot be read.
    """
    if isinstance(message.content, str):
        return message.content, []
    words: list[str] = []
    pictures: list[SourcePicture] = []
    for block in message.content_blocks:
        plain: dict[str, Any] = dict(block)
        if plain["type"] == "non_standard":
            plain = dict(plain["value"])
        if plain.get("type") == "text":
            if not isinstance(plain.get("text"), str):
                raise InputError("a text block without words")
            words.append(plain["text"])
        elif plain.get("type") in ("image", "image_url", "media"):
            pictures.append(read_picture(_data(plain)))
        else:
            raise InputError(f"a content block of type {plain.get('type')!r}; text and image can be read")
    return "\n".join(words), pictures


def _data(block: dict[str, Any]) -> bytes:
    """The bytes of a picture's file, from base64 or as they are."""
    found = next((block[key] for key in ("base64", "data", "url", "image_url") if block.get(key)), None)
    if isinstance(found, dict):
        found = found.get("url")
    if isinstance(found, bytes | bytearray):
        return bytes(found)
    if isinstance(found, str) and found.startswith("data:"):
        head, _, found = found.partition(",")
        if not head.endswith(";base64"):
            raise InputError("a data: address of a picture is base64, as in 'data:image/png;base64,...'")
    elif isinstance(found, str) and ("url" in block or "image_url" in block):
        raise InputError(
            f"the address {found[:80]!r} of a picture is not fetched: this model uses no network and opens "
            f"no files; send the picture as base64 or bytes"
        )
    if not isinstance(found, str):
        raise InputError("an image block without data; send the picture as base64 or bytes")
    try:
        return base64.b64decode(found, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"the base64 of a picture is damaged: {error}") from error
