"""Attention learns to go where words say, and is measured as transformers itself reports it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from superlink.decoders.artifacts import Masks
from superlink.router.errors import DataError, InputError
from superlink.router.messages import Message
from superlink.workflows.data.samples import Look, Sample
from superlink.workflows.train.collective import Alone
from superlink.workflows.train.config import Heads, Looking, Source, Stage
from superlink.workflows.train.looks import LOOKS, LookGoal, look_goals, looks_loss, watched
from superlink.workflows.train.loop import TrainLoop
from superlink.workflows.train.metrics import read_lines
from superlink.workflows.train.module import JointModule
from tests.workflows.train.tiny_system import COLOURS, router_config, tokenizer, toy_config

# A tile of 2 x 2 visual tokens, two layers of two heads.
LOOKING = Looking(
    phrase_looks=Heads(layers=(0,), heads=(0,)),
    phrase_counts=Heads(layers=(1,), heads=(1,)),
    phrase_names=0,
    answer_reads=Heads(layers=(0, 1), heads=(1,)),
    answer_looks=Heads(layers=(1,), heads=(0,)),
)
ALL = dict.fromkeys(LOOKS, 1.0)


def asked(place: int = 1, colour: str = "red", *, size: tuple[int, int] = (8, 8)) -> Sample:
    """A picture with one square of a colour, by its number in reading order, and a question about it."""
    picture, mask = np.full((8, 8, 3), 128, np.uint8), np.zeros((1, *size), np.bool_)
    top, left = 4 * (place // 2), 4 * (place % 2)
    picture[top : top + 4, left : left + 4] = COLOURS[colour]
    mask[:, top : top + 4, left : left + 4] = True
    shown = Masks(
        masks=mask,
        xyxy=np.zeros((1, 4), np.float32),
        scores=np.ones(1, np.float32),
        labels=np.zeros(1, np.int64),
        names=(colour,),
        size=size,
    )
    question = Message(role="user", text=f"hello, find {colour} there", images=(picture,))
    start = question.text.index(colour)
    return Sample(
        conversation=(question, Message(role="assistant", text=f"hi {colour} there")),
        image=None,
        targets=(),
        task="toy",
        source=f"toy:{place}",
        shown=shown,
        looks=(
            Look(message=0, start=start, stop=start + len(colour), things=(0,)),
            Look(message=1, start=0, stop=len(f"hi {colour}"), things=(0,), names=False),
        ),
    )


def module() -> JointModule:
    built = toy_config().system.build()
    built.teach_looking(LOOKING)
    return built


def words_at(built: JointModule, samples: list[Sample], goal: LookGoal, ahead: int = 0) -> list[str]:
    ids = built.prepare(samples).rows.input_ids
    pairs = zip(goal.rows.tolist(), goal.positions.tolist(), strict=True)
    return [tokenizer().decode([int(ids[row, position + ahead])]) for row, position in pairs]


def test_goals_stand_at_the_words_and_point_at_the_squares_of_their_things() -> None:
    built, samples = module(), [asked(1), asked(2, "blue")]
    rows = built.prepare(samples).rows
    goals = look_goals(rows, samples, tokenizer(), router_config())
    visual = rows.input_ids == router_config().token_ids.image_patch
    squares = [visual[row].nonzero()[:, 0].tolist() for row in range(2)]
    phrase = goals["phrase_looks"]
    assert words_at(built, samples, phrase) == [" red", " blue"]
    assert [share.nonzero()[:, 0].tolist() for share in phrase.shares] == [[squares[0][1]], [squares[1][2]]]
    answer = goals["answer_looks"]  # what is written next
    assert words_at(built, samples, answer, ahead=1) == ["hi", " red", "hi", " blue"]
    assert answer.shares.argmax(1).tolist() == [squares[0][1]] * 2 + [squares[1][2]] * 2
    reads = goals["answer_reads"]
    assert reads.positions.tolist() == answer.positions.tolist()
    assert reads.shares.argmax(1).tolist() == [int(p) for p in phrase.positions.repeat_interleave(2)]
    for goal in goals.values():
        torch.testing.assert_close(goal.shares.sum(1), torch.ones(len(goal.rows)))


def test_each_name_of_a_caption_reads_the_one_before() -> None:
    sample = asked(1)
    question, _ = sample.conversation
    reply = Message(role="assistant", text="hi red and red, red")
    looks = tuple(Look(message=1, start=start, stop=start + 3, things=(0,)) for start in (3, 11, 16))
    caption = replace(sample, conversation=(question, reply), looks=looks)
    built = module()
    goals = look_goals(built.prepare([caption]).rows, [caption], tokenizer(), router_config())
    names = goals["phrase_looks"].positions.tolist()
    assert words_at(built, [caption], goals["phrase_looks"]) == [" red"] * 3
    reads = goals["answer_reads"]
    assert [position + 1 for position in reads.positions.tolist()] == names[1:]
    assert reads.shares.argmax(1).tolist() == names[:-1]


def test_things_share_attention_in_equal_parts_however_large() -> None:
    sample = asked(0)
    assert sample.shown is not None
    masks = np.concatenate([sample.shown.masks, np.zeros((1, 8, 8), np.bool_)])
    masks[1, 7, 4:] = True  # four pixels of the last square
    boxes, ones = np.zeros((2, 4), np.float32), np.ones(2, np.float32)
    shown = replace(sample.shown, masks=masks, xyxy=boxes, scores=ones, labels=np.zeros(2, np.int64))
    look = replace(sample.looks[0], things=(0, 1))
    both = replace(sample, shown=shown, looks=(look,))
    goals = look_goals(module().prepare([both]).rows, [both], tokenizer(), router_config())
    looks, counts = goals["phrase_looks"].shares, goals["phrase_counts"].shares
    assert looks[looks > 0].tolist() == [0.5, 0.5]
    assert counts[counts > 0].tolist() == pytest.approx([1 / 3] * 3)  # as much for the row's first token
    assert counts[0, 0] > 0


def test_of_what_is_not_there_the_first_token_gets_all_and_its_answer_still_reads_the_phrase() -> None:
    sample = asked(0)
    none = replace(sample, looks=tuple(replace(look, things=()) for look in sample.looks))
    goals = look_goals(module().prepare([none]).rows, [none], tokenizer(), router_config())
    assert set(goals) == {"phrase_counts", "answer_reads"}
    assert goals["phrase_counts"].shares[0].nonzero()[:, 0].tolist() == [0]


def test_words_that_are_not_in_the_row_and_hidden_things_ask_for_nothing() -> None:
    sample = asked()
    other = (replace(sample.conversation[0], text="find green"), sample.conversation[1])
    rows = module().prepare([replace(sample, conversation=other)]).rows
    goals = look_goals(rows, [sample], tokenizer(), router_config())
    assert set(goals) == {"answer_looks"}  # the reply is there, its phrase is not
    assert sample.shown is not None
    hidden = replace(sample.shown, masks=np.zeros((1, 8, 8), np.bool_))
    bare = replace(sample, shown=hidden)
    assert look_goals(module().prepare([bare]).rows, [bare], tokenizer(), router_config()) == {}
    unseen = replace(sample, conversation=tuple(replace(m, images=()) for m in sample.conversation))
    rows = toy_config().system.build().prepare([replace(unseen, shown=None)]).rows
    assert look_goals(rows, [unseen], tokenizer(), router_config()) == {}


def test_rounds_that_a_full_row_has_lost_are_not_looked_for_in_others() -> None:
    """All rounds say the same: only counting from the end tells them apart."""
    sample, rounds = asked(1), 40
    question, reply = sample.conversation
    later = (replace(question, images=()), reply)
    for before in (0, rounds - 1):  # the first round, which the row has lost, and the last
        long = replace(
            sample,
            conversation=(question, reply, *later * (rounds - 1)),
            looks=tuple(replace(look, message=look.message + 2 * before) for look in sample.looks),
        )
        built = module()
        rows = built.prepare([long]).rows
        said = [tokenizer().decode([int(token)]) for token in rows.input_ids[0]]
        asked_at = [place for place, word in enumerate(said) if word == " red"][::2]
        assert len(asked_at) < rounds
        goals = look_goals(rows, [long], tokenizer(), router_config())
        if before:
            assert goals["phrase_looks"].positions.tolist() == asked_at[-1:]
        else:
            assert goals == {}


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(DataError, match="tells what a picture of 8 x 9 shows"):
        module().prepare([asked(size=(8, 9))])


def test_the_loss_is_the_cross_entropy_of_attention_as_transformers_reports_it() -> None:
    """The model's own weights by its plain implementation, for rows of unequal length."""
    torch.manual_seed(3)
    built = module().eval()
    samples = [asked(1), replace(asked(3, "green"), source="toy:long")]
    batch = built.prepare(samples)
    language = built.router.language
    with torch.no_grad():
        language.model.set_attn_implementation("eager")
        embeds = built.router.embed(batch.rows)
        told = language.model(
            inputs_embeds=embeds, attention_mask=batch.rows.attention_mask, output_attentions=True
        ).attentions
        terms = built(batch, batch.counts)
    for name, heads in (("phrase_looks", LOOKING.phrase_looks), ("answer_reads", LOOKING.answer_reads)):
        goal = batch.looks[name]
        expected = 0.0
        for layer in heads.layers:
            for head in heads.heads:
                weights = told[layer][goal.rows, head, goal.positions]
                expected -= float((goal.shares * weights.clamp(min=1e-30).log()).sum())
        expected /= len(heads.layers) * len(heads.heads) * len(goal.rows)
        assert terms[name].item() == pytest.approx(expected, rel=1e-4)


def test_phrases_name_their_things_through_the_output_layer() -> None:
    """Words in equal parts, things in equal parts; against hidden states as transformers returns them."""
    torch.manual_seed(3)
    built = module().eval()
    sample = asked(1)
    assert sample.shown is not None
    named = replace(sample, shown=replace(sample.shown, names=("red and green",)))
    batch = built.prepare([named])
    goal = batch.looks["phrase_names"]
    words = set(tokenizer().encode(" red and green"))
    assert set(goal.shares[0].nonzero()[:, 0].tolist()) == words
    torch.testing.assert_close(goal.shares[0, list(words)], torch.full((len(words),), 1 / len(words)))
    language = built.router.language
    with torch.no_grad():
        hidden = built.router(batch.rows, output_hidden_states=True).hidden_states[1]  # after the first layer
        logits = language.lm_head(language.model.norm(hidden[goal.rows, goal.positions]))
        expected = -logits.log_softmax(-1)[0, list(words)].mean()
        terms = built(batch, batch.counts)
    assert terms["phrase_names"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_keys_that_several_heads_share_are_theirs() -> None:
    """Grouped queries: the second of two heads uses the only key, too."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, attn_implementation="eager",
    )  # fmt: skip
    language = LlamaForCausalLM(config).eval()
    goal = LookGoal(torch.tensor([0]), torch.tensor([3]), torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0]]))
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    with torch.no_grad(), watched(language, [0]) as seen:
        told = language(ids, output_attentions=True).attentions[0]
        loss = looks_loss(language, seen, Heads(layers=(0,), heads=(1,)), goal)
    assert loss.item() == pytest.approx(-told[0, 1, 3, 1].log().item(), rel=1e-5)


def test_watching_leaves_no_hooks_behind() -> None:
    language = module().router.language
    with pytest.raises(RuntimeError), watched(language, [0, 1]):
        raise RuntimeError
    for layer in language.model.layers:
        attention = layer.self_attn
        for part in (attention, attention.q_proj, attention.k_proj):
            assert not part._forward_hooks
            assert not part._forward_pre_hooks


def test_a_layer_that_is_not_there_cannot_name() -> None:
    with pytest.raises(InputError, match="phrase_names asks for layer 3, the language model has 2 layers"):
        toy_config().system.build().teach_looking(replace(LOOKING, phrase_names=3))


@pytest.mark.parametrize("heads", [Heads(layers=(2,), heads=(0,)), Heads(layers=(0,), heads=(2,))])
def test_heads_that_are_not_there_are_refused(heads: Heads) -> None:
    built = toy_config().system.build()
    with pytest.raises(InputError, match=r"answer_looks asks for (layer|head) 2, the language model has 2"):
        built.teach_looking(replace(LOOKING, answer_looks=heads))


def test_no_layers_or_heads_are_refused() -> None:
    with pytest.raises(InputError, match="at least one layer and one head"):
        Heads(layers=(), heads=(0,))


class Questions:
    """Squares of a colour somewhere, asked for by their colour."""

    def __len__(self) -> int:
        return 48

    def __getitem__(self, index: int) -> Sample:
        return asked(index % 4, list(COLOURS)[index % 3])


def test_a_run_that_asks_for_it_teaches_heads_where_to_look(tmp_path: Path) -> None:
    stage = Stage(name="s", mixture=(Source(name="asked", open=Questions),), steps=60, lr=5e-3)
    config = toy_config(stages=(stage,), loss_weights=ALL, looking=LOOKING, global_batch=12)
    assert TrainLoop(config, tmp_path, collective=Alone(), device=torch.device("cpu")).run()
    losses = [line["losses"] for line in read_lines(tmp_path / "metrics.jsonl")]
    for name in ALL:
        assert losses[-1][name] < 0.7 * losses[0][name]


def test_a_run_that_does_not_ask_pays_nothing(tmp_path: Path) -> None:
    stage = Stage(name="s", mixture=(Source(name="asked", open=Questions),), steps=1, lr=1e-3)
    loop = TrainLoop(toy_config(stages=(stage,)), tmp_path, collective=Alone(), device=torch.device("cpu"))
    batch = loop.module.prepare([asked()])
    assert batch.looks == {}
    assert not set(ALL) & set(loop.module(batch, batch.counts))
