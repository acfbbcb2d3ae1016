"""One tool of a toolbox as LangChain knows tools: `content_and_artifact`, errors told to the model.

Nothing that a model can get wrong ends an agent: an unknown id, a wrong argument, a used-up budget and a
system that is busy come back as messages with status "error".
"""

from __future__ import annotations

from typing import Any

from langchain_core.tools import BaseTool, ToolException
from pydantic import ConfigDict, Field, ValidationError

from superlink.agents.tools.specs import ToolSpec
from superlink.agents.tools.toolbox import Toolbox, checked, wrong_arguments
from superlink.agents.turn import Turn
from superlink.router.errors import SuperlinkError


class SystemTool(BaseTool):
    """Text for the model in the content, a `Turn` as the artifact of the message (or its plain data)."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    toolbox: Toolbox = Field(exclude=True, repr=False)
    spec: ToolSpec = Field(exclude=True, repr=False)

    @classmethod
    def of(cls, toolbox: Toolbox, spec: ToolSpec) -> SystemTool:
        """The tool that `spec` describes, over the memory of `toolbox`."""
        return cls(
            name=spec.name,
            description=spec.description,
            args_schema=spec.arguments,
            response_format="content_and_artifact",
            handle_tool_error=True,
            handle_validation_error=_told,
            toolbox=toolbox,
            spec=spec,
        )

    def _run(self, *words: str, **arguments: Any) -> tuple[str, Turn | dict[str, Any]]:
        # A tool that is called with a string gets it as its first argument.
        named = dict(zip(self.spec.arguments.model_fields, words, strict=False)) | arguments
        try:
            answer = self.toolbox.call(self.spec, checked(self.spec, named))
        except SuperlinkError as error:
            raise ToolException(str(error)) from error
        return answer.text, answer.turn.to_json() if self.toolbox.plain else answer.turn


def _told(error: Any) -> str:
    return wrong_arguments(error) if isinstance(error, ValidationError) else str(error)
