"""A system as a chat model, on the embedded model and on replies that tests give."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models import base as language_models
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage, trim_messages
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from PIL import Image

from superlink.agents.chat_model import SystemChatModel
from superlink.agents.model_folder import Model
from superlink.agents.system import System
from superlink.router.errors import InputError
from superlink.router.requests import GenerateOptions
from tests.agents.tiny_family import scripted
from tests.agents.tiny_model import saying, scene
from tests.agents.tiny_scene import LEFT, RIGHT, drawn, tiny

FOUND = "Here: <det>red circle</det>[DET]."


def file_of(picture: Image.Image | np.ndarray) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def shown(text: str, picture: Any = None) -> HumanMessage:
    """A question with a picture, as LangChain writes it."""
    data = base64.b64encode(file_of(drawn() if picture is None else picture)).decode()
    return HumanMessage(
        content=[
            {"type": "text", "text": text},
            {"type": "image", "base64": data, "mime_type": "image/png"},
        ]
    )


def test_a_reply_has_words_artifacts_and_usage() -> None:
    chat = tiny().as_chat_model()
    reply = chat.invoke([shown("Find every red circle.")])
    turn = chat.turn(reply)
    by_place = turn.boxes.xyxy[np.argsort(turn.boxes.xyxy[:, 0])]
    np.testing.assert_allclose(by_place, [LEFT, RIGHT], atol=6)
    assert reply.content == turn.text
    known = reply.response_metadata
    assert known["model_name"] == "tiny"
    assert known["finish_reason"] == "stop"
    assert known["artifacts"] == turn.to_json()["artifacts"]
    assert json.loads(json.dumps(known)) == known
    usage = reply.usage_metadata
    assert usage is not None
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    # What is read grows with what is asked.
    longer = chat.invoke([shown("Find every red circle and every blue square.")])
    assert longer.usage_metadata is not None
    assert longer.usage_metadata["input_tokens"] > usage["input_tokens"]
    assert "[DET]" in known["raw"]
    assert dumps(reply)  # as traces and caches write it


def test_the_stream_is_the_reply_in_pieces() -> None:
    chat = tiny().as_chat_model()
    question = [shown("Find every red circle.")]
    whole = chat.invoke(question)
    chunks = list(chat.stream(question))
    assert len(chunks) > 3
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk  # type: ignore[assignment]
    assert total.content == whole.content
    assert [chunk.chunk_position for chunk in chunks].count("last") == 1
    assert chunks[-1].response_metadata["artifacts"]
    for name in ("raw", "artifacts", "failures", "finish_reason", "model_name"):
        assert total.response_metadata[name] == whole.response_metadata[name], name
    assert total.usage_metadata == whole.usage_metadata
    np.testing.assert_array_equal(chat.turn(total).boxes.xyxy, chat.turn(whole).boxes.xyxy)


def test_a_stream_that_is_left_stops_the_router(model: Model) -> None:
    closed = []

    class Watched:
        def __init__(self, system: System) -> None:
            self._engine, self.decoders = system.engine, system.decoders
            self.submit, self.close = system.engine.submit, system.engine.close

        def stream(self, requests: Any) -> Any:
            try:
                yield from self._engine.stream(requests)
            finally:
                closed.append(True)

    said = saying(model, FOUND)
    chat = System(Watched(said), options=said.options).as_chat_model()
    stream = chat.stream([shown("Find it.")])
    next(stream)
    assert not closed
    stream.close()  # type: ignore[attr-defined]
    assert closed == [True]


def test_awaited_batched_and_traced_it_says_the_same() -> None:
    chat = tiny().as_chat_model()
    questions: list[LanguageModelInput] = [
        [shown("Find every red circle.")], [shown("Segment the blue square.")], "Hello"
    ]  # fmt: skip
    alone = [chat.invoke(one) for one in questions]
    together = chat.batch(questions, config={"max_concurrency": 2})
    assert [one.content for one in together] == [one.content for one in alone]

    async def awaited() -> tuple[AIMessage, list[str], list[str]]:
        reply = await chat.ainvoke(questions[0])
        pieces = [str(chunk.content) async for chunk in chat.astream(questions[0])]
        events = [event["event"] async for event in chat.astream_events(questions[0], version="v2")]
        return reply, pieces, events

    reply, pieces, events = asyncio.run(awaited())
    assert reply.content == "".join(pieces) == alone[0].content
    assert events[0] == "on_chat_model_start"
    assert events[-1] == "on_chat_model_end"
    assert events.count("on_chat_model_stream") == len(pieces)


def test_it_stands_in_a_chain() -> None:
    prompt = ChatPromptTemplate.from_messages([("human", "{words}")])
    chain = prompt | tiny().as_chat_model() | StrOutputParser()
    assert chain.invoke({"words": "Hello"}).startswith("Hello!")
    assert "".join(chain.stream({"words": "Hello"})) == chain.invoke({"words": "Hello"})


def test_its_own_replies_go_back_as_it_wrote_them(model: Model) -> None:
    system, engine = scripted(model, FOUND, FOUND)
    chat = system.as_chat_model()
    first = shown("Find it.", scene())
    reply = chat.invoke([first])
    chat.invoke([SystemMessage("Be short."), first, reply, HumanMessage("And the left one?")])
    system_words, asked, said, again = engine.requests[-1].conversation
    assert (system_words.role, system_words.text) == ("system", "Be short.")
    assert said.text == reply.response_metadata["raw"]
    assert "[DET]" in said.text
    # The picture is sent once and stays what the question is about.
    assert len(asked.images) == 1
    assert again.images == ()
    np.testing.assert_array_equal(engine.calls[-1][1].image, scene())


@pytest.mark.parametrize(
    "reply",
    [
        AIMessage("Sure: <det>heart</det>[DET]."),
        AIMessage("Sure: heart.", response_metadata={"model_name": "other", "raw": "<det>a</det>[DET]"}),
        AIMessage("Sure: heart.", response_metadata={"model_name": "test", "raw": "<det>a</det>[DET]"}),
        AIMessage("Sure: heart.", response_metadata={"model_name": "test", "raw": 3}),
    ],
)
def test_words_of_others_go_back_as_words(model: Model, reply: AIMessage) -> None:
    system, engine = scripted(model, FOUND)
    system.as_chat_model().invoke([HumanMessage("Hello"), reply, shown("Find it.", scene())])
    assert engine.requests[-1].conversation[1].text == "Sure: heart."


def test_a_picture_that_was_made_is_what_the_next_question_is_about(family: Model) -> None:
    system, engine = scripted(family, "<det>star</det>[GEN]", "<det>star</det>[DET]")
    chat = system.as_chat_model()
    reply = chat.invoke("Paint a star.")
    made = chat.turn(reply).picture
    assert made is not None
    chat.invoke([HumanMessage("Paint a star."), reply, HumanMessage("Find it.")])
    np.testing.assert_array_equal(engine.calls[-1][1].image, made.pixels)
    np.testing.assert_array_equal(engine.requests[-1].conversation[-1].images[0], made.pixels)


@pytest.mark.parametrize("form", ["base64", "bytes", "data", "openai", "anthropic", "media"])
def test_a_picture_is_read_in_every_form_that_carries_its_data(model: Model, form: str) -> None:
    data = file_of(scene())
    text = base64.b64encode(data).decode()
    blocks: dict[str, dict[str, Any]] = {
        "base64": {"type": "image", "base64": text, "mime_type": "image/png"},
        "bytes": {"type": "image", "base64": data, "mime_type": "image/png"},
        "data": {"type": "image", "data": data},
        "openai": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{text}"}},
        "anthropic": {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": text},
        },
        "media": {"type": "media", "mime_type": "image/png", "data": data},
    }
    system, engine = scripted(model, FOUND)
    system.as_chat_model().invoke([HumanMessage(content=["Find it.", blocks[form]])])
    (message,) = engine.requests[-1].conversation
    assert message.text == "Find it."
    np.testing.assert_array_equal(message.images[0], scene())


IMAGE = {"type": "image", "base64": base64.b64encode(file_of(scene())).decode(), "mime_type": "image/png"}


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([HumanMessage([{"type": "image_url", "image_url": {"url": "https://a/b.png"}}])], "is not fetched"),
        ([HumanMessage([{"type": "image_url", "image_url": "https://a/b.png"}])], "is not fetched"),
        ([HumanMessage([{"type": "image", "url": "file:///etc/passwd"}])], "is not fetched"),
        ([HumanMessage([{"type": "image", "file_id": "1"}])], "an image block without data"),
        ([HumanMessage([{"type": "image", "base64": "%%", "mime_type": "image/png"}])], "is damaged"),
        ([HumanMessage([{"type": "image", "base64": "AAAA", "mime_type": "image/png"}])], "not a picture"),
        ([HumanMessage([{"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"}])], "type 'audio'"),
        ([HumanMessage("a"), ToolMessage("b", tool_call_id="1")], "message 2: a ToolMessage has no place"),
        ([AIMessage("a"), HumanMessage("b")], "message 1: a conversation begins with a person"),
        ([HumanMessage("a"), AIMessage("b")], "the last message is the question"),
        ([HumanMessage("a"), SystemMessage("b")], "message 2: the system speaks before everybody else"),
        ([SystemMessage([IMAGE]), HumanMessage("a")], "message 1: pictures are read from human messages"),
        ([HumanMessage([IMAGE])], "the question has no words"),
        ([SystemMessage("a")], "the last message is the question"),
        (
            [HumanMessage("a"), AIMessage("", tool_calls=[{"name": "x", "args": {}, "id": "1"}])],
            "message 2: it calls tools",
        ),
    ],
)
def test_what_it_cannot_read_is_refused_before_anything_runs(
    model: Model, messages: list[Any], said: str
) -> None:
    system, engine = scripted(model)
    with pytest.raises(InputError, match=said):
        system.as_chat_model().invoke(messages)
    assert engine.requests == []


def test_neighbours_of_one_role_are_one_message(model: Model) -> None:
    system, engine = scripted(model, FOUND)
    system.as_chat_model().invoke([HumanMessage([IMAGE]), HumanMessage("Find it."), HumanMessage("Please.")])
    (message,) = engine.requests[-1].conversation
    assert message.text == "Find it.\nPlease."
    assert len(message.images) == 1


def test_settings_become_those_of_the_router(model: Model) -> None:
    system, engine = scripted(model, *[FOUND] * 3)
    base = System(engine, options=GenerateOptions(max_new_tokens=7, temperature=0.5))
    base.as_chat_model().invoke("Hello")
    assert engine.requests[-1].options.max_new_tokens == 7
    assert engine.requests[-1].options.temperature == 0.5
    chat = base.as_chat_model(max_tokens=9, seed=3, stop=["x"])
    chat.invoke("Hello")
    used = engine.requests[-1].options
    assert (used.max_new_tokens, used.seed, used.stop, used.temperature) == (9, 3, ("x",), 0.5)
    chat.bind(max_tokens=11, top_p=0.5).invoke("Hello", stop=["y"], temperature=0.0)
    used = engine.requests[-1].options
    assert (used.max_new_tokens, used.top_p, used.temperature, used.stop) == (11, 0.5, 0.0, ("y",))
    for wrong in ({"temprature": 1}, {"max_tokens": 0}, {"top_p": 2.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            system.as_chat_model(**wrong)
    with pytest.raises(InputError, match="no setting 'tools'; it calls no tools"):
        chat.invoke("Hello", tools=[])


def test_a_reply_ends_where_it_is_told_to() -> None:
    chat = tiny().as_chat_model()
    reply = chat.invoke("Hello", stop=["picture"])
    assert reply.content == "Hello! Give me a"
    assert reply.response_metadata["finish_reason"] == "stop"
    short = chat.invoke("Hello", max_tokens=2)
    assert short.response_metadata["finish_reason"] == "length"
    assert short.usage_metadata is not None
    assert short.usage_metadata["output_tokens"] == 2


def test_tools_are_refused_with_the_reason(model: Model) -> None:
    chat = scripted(model)[0].as_chat_model()
    with pytest.raises(InputError, match="to its own decoders and calls no tools"):
        chat.bind_tools([])


def test_turns_of_old_replies_are_let_go(model: Model) -> None:
    chat = scripted(model, FOUND, FOUND)[0].as_chat_model(keep_turns=1)
    first, second = chat.invoke([shown("Find it.", scene())]), chat.invoke([shown("Find it.", scene())])
    assert chat.turn(second).boxes.names == ("red circle",)
    for message in (first, AIMessage("hi")):
        with pytest.raises(InputError, match="no turn is kept for this message"):
            chat.turn(message)
    assert first.response_metadata["artifacts"]


def test_a_cache_of_langchain_knows_settings_apart(model: Model) -> None:
    system, engine = scripted(model, FOUND, "Here.")
    cache = InMemoryCache()
    chats = [system.as_chat_model(cache=cache, seed=seed) for seed in (0, 0, 1)]
    replies = [chat.invoke("Hello").content for chat in chats]
    assert len(engine.requests) == 2
    assert replies[0] == replies[1] != replies[2]


def test_it_is_what_langchain_says_of_it(model: Model) -> None:
    chat = scripted(model)[0].as_chat_model(max_tokens=5)
    assert isinstance(chat, SystemChatModel)
    params = chat._get_ls_params()
    assert (params["ls_provider"], params["ls_model_name"]) == ("superlink", "test")
    assert params["ls_max_tokens"] == 5
    assert "System" not in repr(chat.asdict())


@pytest.mark.parametrize("stop", ["end", 5, [5]])
def test_a_stop_that_is_no_list_of_words_is_refused_before_the_router_sees_it(
    model: Model, stop: Any
) -> None:
    with saying(model, "Hello.") as system, pytest.raises(InputError, match="stop"):
        system.as_chat_model().invoke("Hello", stop=stop)


def test_a_text_block_without_words_is_refused(model: Model) -> None:
    with saying(model, "Hello.") as system, pytest.raises(InputError, match="message 1: a text block"):
        system.as_chat_model().invoke([HumanMessage(content=[{"type": "text"}])])


def test_tokens_are_those_of_the_router_and_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(text: str) -> list[int]:
        raise AssertionError("the tokenizer of another model was asked for")

    monkeypatch.setattr(language_models, "_get_token_ids_default_method", fetched)
    chat = tiny().as_chat_model()
    words, more = "Find every red circle.", "Find every red circle and every blue square."
    assert chat.get_num_tokens(words) == len(chat.get_token_ids(words)) > 3
    alone = chat.get_num_tokens_from_messages([HumanMessage(words)])
    assert alone == chat.get_num_tokens(words)
    # One word or picture more is as many positions more as the router reads.
    read = [
        chat.invoke([one], max_tokens=1).usage_metadata
        for one in (HumanMessage(words), HumanMessage(more), shown(words))
    ]
    positions = [usage["input_tokens"] for usage in read if usage is not None]
    counted = [
        chat.get_num_tokens_from_messages([one])
        for one in (HumanMessage(words), HumanMessage(more), shown(words))
    ]
    assert counted[1] - counted[0] == positions[1] - positions[0]
    assert 0 <= (positions[2] - positions[0]) - (counted[2] - counted[0]) <= 2  # what ends a picture
    talk = [HumanMessage(more), AIMessage("Here."), HumanMessage(words)]
    assert trim_messages(talk, max_tokens=alone, token_counter=chat) == [talk[-1]]


def test_without_the_words_of_the_router_at_hand_tokens_are_refused_at_once(model: Model) -> None:
    chat = scripted(model)[0].as_chat_model()
    with pytest.raises(InputError, match="Scripted keeps the router's words in another process"):
        chat.get_num_tokens("Hello")
    with pytest.raises(InputError, match="token_counter='approximate'"):
        trim_messages([HumanMessage("Hello")], max_tokens=5, token_counter=chat)
    with pytest.raises(InputError, match="message 1: a content block of type 'audio'"):
        tiny().as_chat_model().get_num_tokens_from_messages(
            [HumanMessage([{"type": "audio", "base64": "A"}])]
        )
