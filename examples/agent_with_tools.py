"""An agent that looks at a picture through tools, without any network.

    python examples/agent_with_tools.py [MODEL] [PICTURE]

The language model is a script here, so that the example runs anywhere: put a chat model with tool
calling in its place, and the loop stays the same. With LangChain installed,
`create_agent(model, toolbox.tools())` is the loop.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult

import superlink as sl

SCENE = Path(__file__).parent / "scene.png"


class Script(BaseChatModel):
    """Says one thing after the other: an agent's language model for examples and tests."""

    replies: list[AIMessage]
    said: int = 0

    @property
    def _llm_type(self) -> str:
        return "script"

    def _generate(self, messages: list[BaseMessage], *rest: Any, **settings: Any) -> ChatResult:
        self.said += 1
        return ChatResult(generations=[ChatGeneration(message=self.replies[self.said - 1])])

    def bind_tools(self, tools: Any, **settings: Any) -> BaseChatModel:  # type: ignore[override]
        return self


def calls(*wanted: tuple[str, dict[str, Any]]) -> AIMessage:
    """A message that calls tools."""
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": name} for name, args in wanted])


def talk(model: BaseChatModel, toolbox: sl.Toolbox, request: str) -> list[BaseMessage]:
    """The loop of an agent: call tools until the model answers in words."""
    tools = {tool.name: tool for tool in toolbox.tools()}
    bound = model.bind_tools(list(tools.values()))
    messages: list[BaseMessage] = [HumanMessage(request)]
    while not isinstance(messages[-1], AIMessage):
        reply = bound.invoke(messages)
        messages += [reply, *(tools[call["name"]].invoke(call) for call in reply.tool_calls)]
    return messages


def main(model: str = "tiny", picture: str = str(SCENE)) -> None:
    with sl.load(model) as system:
        toolbox = sl.Toolbox(system, pictures=[picture])
        request = "How many red circles are there? Outline the largest one."
        agent = Script(
            replies=[
                calls(("count", {"phrases": ["red circle"]}), ("ground", {"phrase": "largest red circle"})),
                calls(("segment", {"phrases": ["red circle"], "refs": ["boxes-2[0]"]})),
                AIMessage("I counted them and outlined the largest one: masks-1."),
            ]
        )
        for message in talk(agent, toolbox, request):
            for call in getattr(message, "tool_calls", ()):
                print(f"  calls {call['name']}({call['args']})")
            if isinstance(message, ToolMessage):
                print("   ", str(message.content).replace("\n", "\n    "))
            elif message.content:
                print(f"{message.type}: {message.content}")
        masks = toolbox.artifact("masks-1")  # what the agent speaks of, with its pixels
        assert isinstance(masks, sl.Masks)
        print(f"masks-1 covers {int(masks.masks.sum()):,} pixels\n")

        planner = sl.PlannerAgent(
            Script(
                replies=[
                    calls(("ground", {"phrase": "largest star"}), ("segment", {"refs": ["$step1"]})),
                    AIMessage("That is the plan."),
                ]
            ),
            toolbox,
        )
        plan = planner.plan("Outline the largest star.")
        print("A plan, before anything runs:\n" + plan.to_yaml())
        print("The same, changed and run:")
        print(planner.run(plan.changed("step1", phrase="largest triangle")))


if __name__ == "__main__":
    main(*sys.argv[1:])
