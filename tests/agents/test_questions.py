"""What people type, as it is kept and as the router reads it."""

from __future__ import annotations

import threading

import pytest
from langchain_core.messages import HumanMessage

from superlink.agents.questions import as_read, checked_deadline
from superlink.router.errors import InputError
from superlink.router.messages import Message
from tests.agents.tiny_scene import drawn, tiny

PLAIN = "Find every red circle."
ODD = ("Find  every  red   circle.", "Find every\u00a0red\tcircle. ", "\r\nFind every red \u2009circle.\r\n")


@pytest.mark.parametrize("typed", ODD)
def test_odd_blanks_change_nothing_of_an_answer_and_stay_in_what_is_kept(typed: str) -> None:
    system = tiny()
    plain = system.ask(PLAIN, image=drawn())
    assert plain.boxes.names == ("red circle",)
    assert system.ask(typed, image=drawn()).raw == plain.raw
    session = system.session()
    assert session.ask(typed, image=drawn()).raw == plain.raw
    assert session._state.messages[0].text == typed.strip()
    chat = system.as_chat_model()
    words = [chat.invoke([HumanMessage(one)]).response_metadata["raw"] for one in (PLAIN, typed)]
    assert words[0] == words[1]


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("a  b", "a b"),
        (" a \t\u00a0 b ", "a b"),
        ("Find:\r\n-  red circle \r\n- star\r\n", "Find:\n- red circle\n- star"),
        ("Find\nthe red circle\nthe star", "Find\nthe red circle\nthe star"),
        ("a\n\n  b", "a\n\nb"),
    ],
)
def test_what_people_wrote_is_read_with_single_blanks_and_in_its_lines(typed: str, read: str) -> None:
    (message,) = as_read((Message(role="user", text=typed),))
    assert message.text == read
    assert as_read((message,))[0].text == read


def test_what_the_router_and_the_system_said_is_read_as_it_is() -> None:
    said = (Message(role="system", text="Be  short. "), Message(role="assistant", text=" A  star. "))
    assert as_read(said) == said


def test_a_deadline_is_a_time_that_a_thread_can_wait() -> None:
    assert checked_deadline(None) is None
    assert checked_deadline(2.5) == 2.5
    assert checked_deadline(1e300) == checked_deadline(10**400) == threading.TIMEOUT_MAX
    for wrong in (0, -1.0, float("inf"), float("nan"), True, "5", -(10**400)):
        with pytest.raises(InputError, match="the deadline is a number of seconds above 0"):
            checked_deadline(wrong)  # type: ignore[arg-type]
