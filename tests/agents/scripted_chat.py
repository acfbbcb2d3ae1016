"""A chat model that says what it is told to: the language model of an agent in tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field


class ScriptedChat(BaseChatModel):
    """Replies with one message after the other; notes the messages and tools that it was given."""

    replies: list[AIMessage]
    seen: list[list[BaseMessage]] = Field(default_factory=list)
    tools: list[Any] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.seen.append(list(messages))
        return ChatResult(generations=[ChatGeneration(message=self.replies[len(self.seen) - 1])])

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> BaseChatModel:  # type: ignore[override]
        self.tools[:] = tools
        return self


def calling(*calls: tuple[str, dict[str, Any]], first: int = 1) -> AIMessage:
    """A reply that calls tools by name, with their arguments."""
    made = [
        ToolCall(name=name, args=arguments, id=f"call-{number}", type="tool_call")
        for number, (name, arguments) in enumerate(calls, start=first)
    ]
    return AIMessage("", tool_calls=made)


def scripted_chat(*replies: AIMessage | str) -> ScriptedChat:
    return ScriptedChat(replies=[AIMessage(one) if isinstance(one, str) else one for one in replies])
