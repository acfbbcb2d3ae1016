from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superlink.router.errors import InputError, ModelError
from superlink.router.tokenizer import END, START, UNKNOWN, RouterTokenizer, answer_markup
from superlink.router.tokens import SPECIAL_TOKENS

TEXTS = [
    "Find every red circle and outline the blue star.",
    "Here they are: the largest of them, 3 hearts and 12 rings.",
]


@pytest.fixture(scope="module")
def tokenizer() -> RouterTokenizer:
    return RouterTokenizer.train(TEXTS * 5, 400)


TRAINED = RouterTokenizer.train(TEXTS * 5, 400)
SNIPPETS = st.sampled_from([*SPECIAL_TOKENS, START, END, UNKNOWN, " red circle", "\n", "  ", "é", "😀"])


@given(st.text())
def test_every_text_survives_encoding(text: str) -> None:
    assert TRAINED.decode(TRAINED.encode(text)) == text


@given(st.lists(st.one_of(SNIPPETS, st.text(max_size=4))).map("".join))
def test_what_a_person_types_never_becomes_a_special_token(text: str) -> None:
    ids = TRAINED.encode(text)
    assert not set(ids) & set(TRAINED.special_texts)
    assert TRAINED.decode(ids) == text


def test_special_tokens_follow_the_base_vocabulary_in_their_fixed_order(tokenizer: RouterTokenizer) -> None:
    ids = [tokenizer.id_of(text) for text in SPECIAL_TOKENS]
    assert ids == list(range(tokenizer.size - len(SPECIAL_TOKENS), tokenizer.size))
    assert [tokenizer.id_of(text) for text in (UNKNOWN, START, END)] == [0, 1, 2]


def test_only_named_markup_counts_as_special(tokenizer: RouterTokenizer) -> None:
    text = "<det>star</det>[DET] and [EMB] <image>"
    ids = tokenizer.encode(text, markup=answer_markup())
    special = [tokenizer.special_texts[index] for index in ids if index in tokenizer.special_texts]
    assert special == ["<det>", "</det>", "[DET]"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, special=False) == "star and [EMB] <image>"


def test_pieces_end_at_spaces_digits_and_punctuation() -> None:
    tokenizer = RouterTokenizer.train(["circle, circle. 12 12 12 circle,"] * 50, 400)
    pieces = [tokenizer.decode([index]) for index in tokenizer.encode("circle, 12 circle.")]
    assert pieces == ["circle", ",", " 1", "2", " circle", "."]


def test_own_routing_tokens_come_last() -> None:
    tokenizer = RouterTokenizer.train(TEXTS, 400, extra_tokens=("[DEPTH]",))
    assert tokenizer.id_of("[DEPTH]") == tokenizer.size - 1
    assert tokenizer.id_of("[DEPTH]") == tokenizer.id_of(SPECIAL_TOKENS[-1]) + 1


def test_a_saved_tokenizer_reads_the_same(tokenizer: RouterTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = RouterTokenizer.load(tmp_path)
    assert again.special_ids == tokenizer.special_ids
    assert again.size == tokenizer.size
    text = "the [DET] red circle <s> ü"
    assert again.encode(text) == tokenizer.encode(text)


def test_a_lone_surrogate_becomes_the_replacement_character(tokenizer: RouterTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"


def test_a_vocabulary_too_small_for_bytes_and_special_tokens_is_refused() -> None:
    with pytest.raises(InputError, match="at least 285 ids, got 100"):
        RouterTokenizer.train(TEXTS, 100)


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        RouterTokenizer.load(tmp_path)


def test_a_broken_tokenizer_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="not a tokenizer file"):
        RouterTokenizer.load(tmp_path)


def test_an_unknown_special_token_is_named(tokenizer: RouterTokenizer) -> None:
    with pytest.raises(ModelError, match=r"\[NOPE\]"):
        tokenizer.id_of("[NOPE]")


def test_importing_the_tokenizer_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, superlink.router.tokenizer; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
