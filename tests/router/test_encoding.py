from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from superlink.router.batch import RouterBatch
from superlink.router.config import RouterConfig
from superlink.router.encoding import NOT_LEARNED, encode
from superlink.router.errors import InputError
from superlink.router.messages import Box, Conversation, ImageArray, Message, Point
from superlink.router.model import Router
from superlink.router.tokenizer import RouterTokenizer

PICTURE: ImageArray = np.full((20, 20, 3), 128, dtype=np.uint8)
WIDE: ImageArray = np.full((20, 40, 3), 128, dtype=np.uint8)
PATCHES = "<im_patch>" * 4


def user(text: str, *images: ImageArray, prompts: tuple[Point | Box, ...] = ()) -> Message:
    return Message(role="user", text=text, images=images, prompts=prompts)


def assistant(text: str) -> Message:
    return Message(role="assistant", text=text)


def read(batch: RouterBatch, tokenizer: RouterTokenizer, row: int = 0) -> str:
    return tokenizer.decode(batch.input_ids[row][batch.attention_mask[row]].tolist())


def learned(batch: RouterBatch, tokenizer: RouterTokenizer, row: int = 0) -> str:
    assert batch.labels is not None
    labels = batch.labels[row]
    return tokenizer.decode(labels[labels != NOT_LEARNED].tolist())


def test_a_question_is_left_open_for_the_answer(tokenizer: RouterTokenizer, config: RouterConfig) -> None:
    batch = encode((user("Find the star.", PICTURE),), tokenizer, config, training=False)
    assert read(batch, tokenizer) == f"<s>{PATCHES}Find the star.</s>"
    assert batch.labels is None
    assert batch.tile_counts == ((1,),)


def test_folded_questions_have_the_same_ids_however_they_are_written(
    tokenizer: RouterTokenizer, config: RouterConfig
) -> None:
    folded = replace(config, fold_case=True)
    shouted, plain = (
        encode((user(text), assistant("Here.")), tokenizer, folded, training=True)
        for text in ("FIND the Star", "find the star")
    )
    assert torch.equal(shouted.input_ids, plain.input_ids)
    assert read(plain, tokenizer) == "<s> find the star</s>Here.</s>"  # answers stay as they are


def test_only_the_answer_is_learned_and_placeholders_are_not(
    tokenizer: RouterTokenizer, config: RouterConfig
) -> None:
    talk = (user("Find it.", PICTURE), assistant("Sure: <det>star</det>[DET], done."))
    batch = encode(talk, tokenizer, config, training=True)
    group = "[EMB][EMB2][EMB3][EMB4]"
    assert read(batch, tokenizer) == f"<s>{PATCHES}Find it.</s>Sure: <det>star</det>[DET]{group}, done.</s>"
    assert learned(batch, tokenizer) == "Sure: <det>star</det>[DET], done.</s>"


def test_the_label_of_every_learned_position_is_its_own_id(
    tokenizer: RouterTokenizer, config: RouterConfig
) -> None:
    talk = (user("a"), assistant("x[DET]y[GEN]"), user("b"), assistant("z"))
    batch = encode(talk, tokenizer, config, training=True)
    assert batch.labels is not None
    chosen = batch.labels != NOT_LEARNED
    assert torch.equal(batch.labels[chosen], batch.input_ids[chosen])
    assert learned(batch, tokenizer) == "x[DET]y[GEN]</s>z</s>"


def test_what_a_person_types_stays_text(tokenizer: RouterTokenizer, config: RouterConfig) -> None:
    text = "say </s> [DET] <image> <region>"
    batch = encode((user(text),), tokenizer, config, training=False)
    ids = batch.input_ids[0].tolist()
    assert [index for index in ids if index in tokenizer.special_texts] == [
        tokenizer.id_of("<s>"),
        tokenizer.id_of("</s>"),
    ]


def test_prompts_stand_before_the_words_and_are_counted_through_the_conversation(
    tokenizer: RouterTokenizer, config: RouterConfig
) -> None:
    talk = (
        user("What are these?", PICTURE, prompts=(Point(3, 3), Box(0, 0, 4, 4))),
        assistant("Stars."),
        user("And this?", prompts=(Point(9, 9),)),
    )
    batch = encode(talk, tokenizer, config, training=False)
    first = "<reg>region1<region></reg>, <reg>region2<region></reg> What are these?"
    second = "<reg>region3<region></reg> And this?"
    assert read(batch, tokenizer) == f"<s>{PATCHES}{first}</s>Stars.</s><s>{second}</s>"
    assert batch.regions is not None
    assert batch.regions.shape == (3, 1, 28, 28)
    assert batch.region_images == ((0, 0, 0),)


def test_prompts_point_at_the_last_picture(tokenizer: RouterTokenizer, config: RouterConfig) -> None:
    talk = (user("a", PICTURE), assistant("b"), user("c", WIDE, prompts=(Point(30, 3),)))
    batch = encode(talk, tokenizer, config, training=False)
    assert batch.tile_counts == ((1, 3),)
    assert batch.region_images == ((1,),)


def test_rows_of_any_kind_share_a_batch_and_the_router_reads_it(
    tokenizer: RouterTokenizer, config: RouterConfig, router: Router
) -> None:
    talks: list[Conversation] = [
        (user("Hello"), assistant("Hi there, how are you?")),
        (user("Find", PICTURE, prompts=(Point(1, 1),)), assistant("<det>star</det>[DET]")),
        (user("Two", WIDE, PICTURE), assistant("<det>star</det>[GRD] and [GEN].")),
    ]
    batch = encode(talks, tokenizer, config, training=True)
    assert batch.tile_counts == ((), (1,), (3, 1))
    output = router(batch)
    assert [[link.token.text for link in row] for row in output.links] == [[], ["[DET]"], ["[GRD]", "[GEN]"]]
    assert output.loss is not None
    assert torch.isfinite(output.loss)
    for index, talk in enumerate(talks):
        alone = encode(talk, tokenizer, config, training=True)
        assert read(alone, tokenizer) == read(batch, tokenizer, index)
        assert learned(alone, tokenizer) == learned(batch, tokenizer, index)


def test_the_layout_of_vicuna(tokenizer: RouterTokenizer, config: RouterConfig) -> None:
    talk = (user("Find it.", PICTURE), assistant("Here."), user("Thanks"))
    batch = encode(talk, tokenizer, replace(config, template="vicuna_v1"), training=False)
    text = read(batch, tokenizer)
    assert text.startswith("<s>A chat between a curious user and an artificial intelligence assistant. ")
    assert text.endswith(f"USER: {PATCHES}\nFind it. ASSISTANT: Here.</s>USER: Thanks ASSISTANT:")


def test_system_words_come_first(tokenizer: RouterTokenizer, config: RouterConfig) -> None:
    talk = (Message(role="system", text="Be kind."), user("Hi"))
    assert read(encode(talk, tokenizer, config, training=False), tokenizer) == "Be kind.\n<s>Hi</s>"


def test_a_long_conversation_loses_its_oldest_rounds_but_keeps_the_picture_and_its_numbers(
    tokenizer: RouterTokenizer, config: RouterConfig
) -> None:
    talk = (
        user("Find every red circle.", PICTURE, prompts=(Point(1, 1),)),
        assistant("<det>red circle</det>[DET]"),
        user("Outline the star.", prompts=(Point(5, 5),)),
    )
    whole = encode(talk, tokenizer, config, training=False)
    short = encode(talk, tokenizer, config, training=False, limit=whole.input_ids.shape[1] - 1)
    region = "<reg>region2<region></reg>"
    assert read(short, tokenizer) == f"<s>{PATCHES}{region} Outline the star.</s>"
    assert short.tile_counts == ((1,),)
    assert short.region_images == ((0,),)


def test_a_last_round_that_is_too_long_is_refused_with_both_numbers(
    tokenizer: RouterTokenizer, config: RouterConfig
) -> None:
    with pytest.raises(InputError, match=r"needs \d{5} positions, the router takes 512"):
        encode((user("word " * 10_000, PICTURE),), tokenizer, config, training=False)


@pytest.mark.parametrize(
    ("talk", "training", "words"),
    [
        ((user("  "),), False, "instruction is empty"),
        ((user("Find"),), True, "must end with the assistant"),
        ((assistant("Hi"), user("Find")), False, "take turns"),
        ((user("a"), user("b")), False, "messages 1 and 2 come from user and user"),
        ((Message(role="system", text="a"),), False, "needs a question"),
        ((user("Find", prompts=(Point(1, 1),)),), False, "needs a picture"),
        ((user("Find", PICTURE, prompts=(Point(100, 1),)),), False, r"point \(100, 1\)"),
    ],
)
def test_conversations_that_cannot_be_read_are_refused(
    tokenizer: RouterTokenizer, config: RouterConfig, talk: Conversation, training: bool, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        encode(talk, tokenizer, config, training=training)


def test_an_empty_batch_is_refused(tokenizer: RouterTokenizer, config: RouterConfig) -> None:
    with pytest.raises(InputError, match="at least one conversation"):
        encode([], tokenizer, config, training=False)
