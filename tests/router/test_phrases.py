from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superlink.router.phrases import ParsedReply, ReplyReader, parse_reply
from superlink.router.tokens import ROUTING_TEXTS, SPECIAL_TOKENS


def parsed(raw: str, expression: str = "") -> ParsedReply:
    return parse_reply(raw, ROUTING_TEXTS, expression=expression)


def test_tags_give_the_phrase_and_leave_the_text_readable() -> None:
    reply = parsed("Here they are: <det>red circle</det>[DET], <det>star</det>[SEG].")
    assert reply.text == "Here they are: red circle, star."
    again = parsed("Here they are:<det> red circle</det>[DET],<det> star</det>[SEG].")
    assert (again.text, again.phrases) == (reply.text, reply.phrases)
    assert reply.phrases == ("red circle", "star")


@pytest.mark.parametrize(
    ("raw", "phrases"),
    [
        ("person[DET], traffic light[DET] and dog[DET].", ("person", "traffic light", "dog")),
        ("Sure: the cat[DET]", ("the cat",)),
        ("I see it. Black cat [SEG].", ("Black cat",)),
        ("cat, and dog[DET]", ("dog",)),
        ("star[DET][SEG]", ("star", "star")),
        ("<det>star</det>[DET][SEG]", ("star", "star")),
        ("<det>star</det> [DET]", ("star",)),
        ("<det>star</det> there, moon[DET]", ("moon",)),
        ("<det>star[DET]", ("star",)),
        ("<grd>a tall man</grd>[GRD]", ("a tall man",)),
        ("3.5 cm ring[DET]", ("3.5 cm ring",)),
        ("[DET]", ("what was asked",)),
        ("It is [GRD].", ("what was asked",)),
        ("[GRD]", ("what was asked",)),
        ("leftmost star[GRD]", ("leftmost star",)),
        ("no token at all", ()),
    ],
)
def test_the_phrase_of_each_token(raw: str, phrases: tuple[str, ...]) -> None:
    assert parsed(raw, "what was asked").phrases == phrases


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("a star [DET] shines", "a star shines"),
        ("a star [DET].", "a star."),
        ("a star[DET]", "a star"),
        ("  two  spaces\n\nstay ", "two  spaces\n\nstay"),
        ("[DET] first", "first"),
        ("", ""),
    ],
)
def test_removed_tokens_leave_no_holes(raw: str, text: str) -> None:
    assert parsed(raw).text == text


words = st.text(alphabet="abc xyz", min_size=1, max_size=8).map(str.strip).filter(bool)
phrases = words.map(lambda text: " ".join(text.split()))
anything = st.lists(
    st.one_of(st.sampled_from(SPECIAL_TOKENS), st.text(alphabet="ab ,.\n:é", max_size=5)), max_size=12
)


@given(st.lists(st.tuples(phrases, st.sampled_from(ROUTING_TEXTS)), min_size=1, max_size=5))
def test_tagged_phrases_come_back_in_order(groups: list[tuple[str, str]]) -> None:
    raw = "Here: " + ", ".join(f"<det>{phrase}</det>{token}" for phrase, token in groups) + "."
    reply = parsed(raw, "other words")
    assert reply.phrases == tuple(phrase for phrase, _ in groups)
    assert reply.text == "Here: " + ", ".join(phrase for phrase, _ in groups) + "."


@given(anything)
def test_every_routing_token_has_one_phrase_and_no_special_token_is_read(pieces: list[str]) -> None:
    raw = "".join(pieces)
    reply = parsed(raw, "asked")
    assert len(reply.phrases) == sum(raw.count(text) for text in ROUTING_TEXTS)
    assert all(reply.phrases)
    assert not any(text in reply.text for text in SPECIAL_TOKENS)
    assert reply.text == reply.text.strip()


@given(anything, st.data())
def test_text_may_come_in_any_pieces(pieces: list[str], data: st.DataObject) -> None:
    reader = ReplyReader(expression="asked")
    shown, owned = [], []
    for piece in pieces:
        if piece in ROUTING_TEXTS:
            owned.append(reader.route(piece))
        elif piece in SPECIAL_TOKENS:
            reader.mark(piece)
        else:
            cut = data.draw(st.integers(0, len(piece)))
            shown += [reader.words(piece[:cut]), reader.words(piece[cut:])]
    reply = parsed("".join(pieces), "asked")
    assert "".join(shown) == reply.text
    assert tuple(owned) == reply.phrases


@given(st.text(alphabet="ab c,.\n", max_size=20))
def test_plain_text_is_kept_as_it_is(text: str) -> None:
    assert parsed(text).text == text.strip()
