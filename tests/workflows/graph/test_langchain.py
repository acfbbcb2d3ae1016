"""A workflow is a Runnable like any other."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda, RunnableParallel

from superlink import Image, StepError, Workflow, steps
from tests.workflows.graph.toys import add, double, inc, refuse_three, upto


def two() -> Workflow:
    wf = Workflow("two")
    x = wf.input("x", int, description="a number")
    wf.output("more", inc(x))
    wf.output("twice", double(x))
    return wf


class Listener(BaseCallbackHandler):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.parents: dict[Any, Any] = {}
        self.names: dict[Any, str] = {}

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: Any, **more: Any) -> None:
        self.names[run_id] = more["name"]
        self.parents[run_id] = more.get("parent_run_id")
        self.heard.append(("start", more["name"], tuple(more.get("tags") or ())))

    def on_chain_end(self, outputs: Any, *, run_id: Any, **more: Any) -> None:
        self.heard.append(("end", self.names[run_id], outputs))

    def on_chain_error(self, error: BaseException, *, run_id: Any, **more: Any) -> None:
        self.heard.append(("error", self.names[run_id], type(error).__name__))


def test_it_composes_with_other_runnables() -> None:
    chain = RunnableLambda(lambda text: int(text)) | two() | RunnableLambda(lambda found: sum(found.values()))
    assert chain.invoke("3") == 10
    assert chain.batch(["1", "2"]) == [4, 7]
    assert asyncio.run(chain.ainvoke("3")) == 10
    both = RunnableParallel(a=two(), b=two().pick("more"))
    assert both.invoke(1) == {"a": {"more": 2, "twice": 2}, "b": 2}
    assert two().map().invoke([1, 2]) == two().batch([1, 2])


def test_leaving_an_asynchronous_stream_stops_the_run() -> None:
    ran: list[int] = []

    @steps.step
    def slow(x: int) -> int:
        ran.append(x)
        time.sleep(0.1)
        return x + 1

    wf = Workflow("slow")
    value = wf.input("x", int)
    for number in range(8):
        value = slow(value)
        wf.output(f"y{number}", value)

    async def first() -> Any:
        stream = wf.astream(0)
        async for chunk in stream:
            await stream.aclose()
            return chunk

    assert asyncio.run(first()) == {"y0": 1}
    time.sleep(0.5)
    assert len(ran) < 5


def test_every_way_to_call_gives_the_same() -> None:
    wf = two()
    expected = {"more": 4, "twice": 6}

    async def asynchronous() -> list[Any]:
        chunks = [chunk async for chunk in wf.astream(3)]
        return [
            await wf.ainvoke(3),
            (await wf.abatch([3]))[0],
            chunks[0] + chunks[1],
            *[result async for _, result in wf.abatch_as_completed([3])],
        ]

    chunks = list(wf.stream(3))
    assert [wf.invoke(3), wf.invoke({"x": 3}), wf.batch([3])[0], chunks[0] + chunks[1]] == [expected] * 4
    assert asyncio.run(asynchronous()) == [expected] * 4
    assert dict(wf.batch_as_completed([3])) == {0: expected}


def test_bound_options_and_configs_are_followed() -> None:
    wf = Workflow("strict")
    wf.output("y", refuse_three(wf.input("x", int)))
    assert isinstance(wf.bind(errors="return").invoke(3), StepError)
    assert wf.with_retry(stop_after_attempt=2).invoke(2) == {"y": 2}
    (failed,) = wf.batch([3], return_exceptions=True)
    assert isinstance(failed, StepError)
    with pytest.raises(StepError):
        list(wf.stream(3))
    assert next(iter(wf.stream(3, errors="return")))["y"].step == "refuse_three"


def test_a_stream_gives_outputs_before_the_slow_ones_are_there() -> None:
    import threading

    release = threading.Event()

    @steps.step
    def slow(x: int) -> int:
        assert release.wait(20)
        return x

    wf = Workflow("stream")
    x = wf.input("x", int)
    wf.output("slow", slow(x))
    wf.output("fast", inc(x))
    wf.output("items", inc(steps.each()(upto(x))))
    stream = wf.stream(2)
    assert next(stream) == {"fast": 3}
    release.set()
    rest: dict[str, Any] = {}
    for chunk in stream:
        rest |= chunk
    assert rest == {"slow": 2, "items": [1, 2]}


def test_callbacks_hear_of_the_workflow_and_of_its_steps_below_it() -> None:
    listener = Listener()
    wf = Workflow("heard")
    wf.output("y", refuse_three(inc(wf.input("x", int))))
    wf.invoke(1, {"callbacks": [listener], "tags": ["mine"], "run_name": "named"})
    assert [heard[:2] for heard in listener.heard] == [
        ("start", "named"),
        ("start", "inc"),
        ("end", "inc"),
        ("start", "refuse_three"),
        ("end", "refuse_three"),
        ("end", "named"),
    ]
    assert "mine" in listener.heard[0][2]
    roots = [run for run, parent in listener.parents.items() if parent is None]
    assert [parent for parent in listener.parents.values() if parent is not None] == roots * 2
    listener.heard.clear()
    with pytest.raises(StepError):
        wf.invoke(2, {"callbacks": [listener]})
    assert [heard[:2] for heard in listener.heard[-2:]] == [("error", "refuse_three"), ("error", "heard")]


def test_runnables_that_a_step_calls_are_below_the_step() -> None:
    listener = Listener()

    @steps.step
    def calls(x: int) -> int:
        return RunnableLambda(lambda value: value + 1, name="inner").invoke(x)

    wf = Workflow("outer")
    wf.output("y", calls(wf.input("x", int)))
    wf.batch([1, 2], {"callbacks": [listener]})
    parents = [
        listener.names[parent] for run, parent in listener.parents.items() if listener.names[run] == "inner"
    ]
    assert parents == ["calls", "calls"]


def test_events_of_a_run_name_its_steps() -> None:
    async def events() -> list[tuple[str, str]]:
        found = two().astream_events(3, version="v2")
        return [(event["event"], event["name"]) async for event in found]

    heard = asyncio.run(events())
    assert heard[0] == ("on_chain_start", "two")
    assert heard[-1] == ("on_chain_end", "two")
    for name in ("inc", "double"):
        assert ("on_chain_start", name) in heard
        assert ("on_chain_end", name) in heard
    assert [name for event, name in heard if event == "on_chain_stream"] == ["two", "two"]


@pytest.mark.filterwarnings("ignore:This API is in beta")  # Runnable.as_tool
def test_schemas_say_what_goes_in_and_out() -> None:
    wf = two()
    assert wf.get_input_jsonschema()["properties"] == {"x": {"type": "integer", "description": "a number"}}
    assert wf.get_output_jsonschema()["required"] == ["more", "twice"]
    assert wf.get_input_schema().model_validate({"x": 3}).model_dump() == {"x": 3}
    tool = two().as_tool(name="two", description="adds")
    assert tool.invoke({"x": 3}) == {"more": 4, "twice": 6}
    pictures = Workflow("pictures")
    photo = pictures.input("photo", Image)
    pictures.output("found", steps.detect("star")(photo))
    assert pictures.get_input_jsonschema()["properties"]["photo"]["type"] == "string"


def test_more_inputs_than_one_are_given_by_name() -> None:
    wf = Workflow("sum")
    wf.output("y", add(wf.input("a", int), wf.input("b", int)))
    assert wf.invoke({"a": 1, "b": 2}) == {"y": 3}
    with pytest.raises(StepError, match="expected values for a, b, got int"):
        wf.invoke(1)
    with pytest.raises(StepError, match="missing input"):
        wf.invoke({"a": 1})
