"""Real agents drive the tools: a plain chain of langchain-core, and the prebuilt agents of LangGraph."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda

from superlink.agents.tools.toolbox import Toolbox
from superlink.agents.turn import Turn
from tests.agents.scripted_chat import ScriptedChat, calling, scripted_chat
from tests.agents.tiny_scene import LEFT, SQUARE, drawn, tiny

REQUEST = "Outline the left circle and tell me how many there are."


def script() -> ScriptedChat:
    """Finds, makes one mistake, outlines the left one, counts, answers."""
    return scripted_chat(
        calling(("detect", {"phrases": ["red circle"]})),
        calling(("segment", {"refs": ["boxes-7[0]"]}), first=2),
        calling(("ground", {"phrase": "leftmost red circle"}), ("count", {"of": "boxes-1"}), first=3),
        calling(("segment", {"phrases": ["red circle"], "refs": ["boxes-2"]}), first=5),
        "Outlined; there are 2.",
    )


def check_talk(messages: list[BaseMessage]) -> None:
    told = [message for message in messages if isinstance(message, ToolMessage)]
    assert [message.status for message in told] == ["success", "error", "success", "success", "success"]
    assert told[1].content == "there is no 'boxes-7'; what is known: picture-1, boxes-1"
    by_call = {message.tool_call_id: message for message in told}
    assert by_call["call-4"].content == "2 x red circle in boxes-1"
    turn = by_call["call-5"].artifact
    assert isinstance(turn, Turn)
    assert len(turn.masks) == 1
    np.testing.assert_allclose(turn.masks.xyxy[0], LEFT, atol=6)
    assert messages[-1].content == "Outlined; there are 2."


def test_a_plain_chain_drives_the_tools() -> None:
    toolbox = Toolbox(tiny(), pictures=[drawn()])
    tools = {tool.name: tool for tool in toolbox.tools()}
    chat = script()
    model = chat.bind_tools(list(tools.values()))

    def answered(reply: AIMessage) -> list[BaseMessage]:
        return [reply, *(tools[call["name"]].invoke(call) for call in reply.tool_calls)]

    step = model | RunnableLambda(answered)
    messages: list[BaseMessage] = [HumanMessage(REQUEST)]
    while not isinstance(messages[-1], AIMessage):
        messages += step.invoke(messages)
    check_talk(messages)
    assert [tool.name for tool in chat.tools] == list(tools)


def test_langgraphs_own_agent_drives_the_tools() -> None:
    prebuilt = pytest.importorskip("langgraph.prebuilt", reason="langgraph is not installed (extra dev)")
    toolbox = Toolbox(tiny(), pictures=[drawn()])
    with pytest.warns(DeprecationWarning, match="create_react_agent has been moved"):
        agent = prebuilt.create_react_agent(script(), toolbox.tools())
    check_talk(agent.invoke({"messages": [HumanMessage(REQUEST)]})["messages"])


def test_an_agent_of_langchain_drives_the_tools_awaited_and_streamed() -> None:
    agents = pytest.importorskip("langchain.agents", reason="langchain is not installed (extra dev)")

    async def awaited() -> list[BaseMessage]:
        agent = agents.create_agent(script(), Toolbox(tiny(), pictures=[drawn()]).tools())
        done: dict[str, Any] = await agent.ainvoke({"messages": [HumanMessage(REQUEST)]})
        return list(done["messages"])

    check_talk(asyncio.run(awaited()))
    agent = agents.create_agent(script(), Toolbox(tiny(), pictures=[drawn()]).tools())
    states = list(agent.stream({"messages": [HumanMessage(REQUEST)]}, stream_mode="values"))
    check_talk(states[-1]["messages"])


def test_a_checkpointer_writes_no_pictures_where_messages_are_plain() -> None:
    agents = pytest.importorskip("langchain.agents", reason="langchain is not installed (extra dev)")
    memory = pytest.importorskip(
        "langgraph.checkpoint.memory", reason="langgraph is not installed (extra dev)"
    )
    sizes = {}
    for plain in (False, True):
        saver = memory.InMemorySaver()
        toolbox = Toolbox(tiny(), pictures=[drawn()], plain=plain)
        agent = agents.create_agent(script(), toolbox.tools(), checkpointer=saver)
        config = {"configurable": {"thread_id": "1"}}
        agent.invoke({"messages": [HumanMessage(REQUEST)]}, config)
        messages = agent.get_state(config).values["messages"]
        assert messages[-1].content == "Outlined; there are 2."
        sizes[plain] = sum(len(kind) + len(data) for kind, data in saver.blobs.values())
        if plain:
            artifact = next(one for one in messages if getattr(one, "tool_call_id", "") == "call-5").artifact
            assert artifact["artifacts"][0]["id"] == "masks-1"
            assert len(artifact["artifacts"][0]["rle"]) == 1
    picture = int(np.prod(drawn().size)) * 3
    assert sizes[False] > 4 * picture  # five messages, each with its picture, written again and again
    assert sizes[True] < picture


def test_the_chat_model_of_a_system_stands_in_an_agent_without_tools() -> None:
    agents = pytest.importorskip("langchain.agents", reason="langchain is not installed (extra dev)")
    chat = tiny().as_chat_model()
    agent = agents.create_agent(chat, [])
    reply = agent.invoke({"messages": [HumanMessage("Hello")]})["messages"][-1]
    assert reply.content.startswith("Hello!")
    assert chat.turn(reply).text == reply.content


def test_items_of_a_result_are_numbered_as_the_next_tool_reads_them() -> None:
    toolbox = Toolbox(tiny(), pictures=[drawn()])
    boxes = toolbox.run("detect", {"phrases": ["red circle", "blue square"]}).turn.boxes
    row = boxes.phrases.index("blue square")
    masks = toolbox.run("segment", {"refs": [f"boxes-1[{row}]"]}).turn.masks
    np.testing.assert_allclose(masks.xyxy[0], SQUARE, atol=4)
    assert masks.names == ("blue square",)
