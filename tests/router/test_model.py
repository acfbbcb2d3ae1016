"""The router's forward: what is spliced in where, who owns which link, what learns."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from superlink.router.batch import RouterBatch
from superlink.router.config import RouterConfig
from superlink.router.errors import InputError, LinkError
from superlink.router.model import Router
from superlink.router.tokens import RoutingToken
from tests.router.batches import batch_of, example_rows


@pytest.fixture
def batch(config: RouterConfig) -> RouterBatch:
    return batch_of(config, example_rows(config))


def fresh(router: Router, **changes: Any) -> Router:
    """A router of its own with the same weights and a changed configuration."""
    changed = Router(replace(router.config, **changes))
    changed.load_state_dict(router.state_dict())
    return changed.eval()


def test_each_row_of_a_batch_gives_what_it_gives_alone(
    router: Router, config: RouterConfig, batch: RouterBatch
) -> None:
    with torch.no_grad():
        together = router(batch)
        for index, row in enumerate(example_rows(config)):
            alone = router(batch_of(config, [row]))
            torch.testing.assert_close(
                together.logits[index, : len(row)], alone.logits[0], atol=1e-5, rtol=1e-5
            )
            assert [link.token for link in together.links[index]] == [link.token for link in alone.links[0]]
            for ours, theirs in zip(together.links[index], alone.links[0], strict=True):
                torch.testing.assert_close(ours.embeddings, theirs.embeddings, atol=1e-5, rtol=1e-5)


def test_links_belong_to_the_token_before_them_and_come_in_reading_order(
    router: Router, config: RouterConfig, batch: RouterBatch
) -> None:
    with torch.no_grad():
        output = router(batch)
    texts = [[link.token.text for link in row] for row in output.links]
    assert texts == [["[DET]", "[DET]"], ["[POSE]", "[SEG]"], ["[GEN]"], ["[GRD]"]]
    for row, links in enumerate(output.links):
        for link in links:
            assert batch.input_ids[row, link.position] == config.token_ids[link.token.text]
            start = link.position + (link.token.kind == "super")
            expected = output.hidden[row, start : start + link.token.num_links]
            torch.testing.assert_close(link.embeddings, expected, rtol=0, atol=0)
    again = router.gather_links(batch.input_ids, batch.attention_mask, output.hidden)
    assert [[link.position for link in row] for row in again] == [
        [link.position for link in row] for row in output.links
    ]


def test_placeholders_are_replaced_by_the_table_and_words_are_not(
    router: Router, config: RouterConfig, batch: RouterBatch
) -> None:
    with torch.no_grad():
        embeds = router.embed(batch)
    words = router.language.get_input_embeddings()(batch.input_ids)
    ids = config.token_ids
    replaced = torch.isin(batch.input_ids, torch.tensor([ids.image_patch, ids.region, *ids.placeholders]))
    torch.testing.assert_close(embeds[~replaced], words[~replaced], rtol=0, atol=0)
    gen = example_rows(config)[2].index(ids["[GEN]"]) + 1
    torch.testing.assert_close(embeds[2, gen : gen + 7], router.queries["gen"].weight)


def test_placeholder_ids_never_reach_the_language_model(router: Router, batch: RouterBatch) -> None:
    changed = copy.deepcopy(router)
    with torch.no_grad():
        for placeholder in router.config.token_ids.placeholders:
            changed.language.get_input_embeddings().weight[placeholder] += 10.0
        torch.testing.assert_close(changed(batch).hidden, router(batch).hidden, rtol=0, atol=0)


def test_a_region_reads_the_last_tile_of_its_own_picture(config: RouterConfig, router: Router) -> None:
    batch = batch_of(config, example_rows(config)[1:2])  # regions on picture 1 (tile 2) and 0 (tiles 0, 1)
    assert batch.tiles is not None
    where = batch.input_ids == config.token_ids.region
    with torch.no_grad():
        before = router.embed(batch)[where]
        for tile, touched in ((0, []), (1, [1]), (2, [0])):
            tiles = batch.tiles.clone()
            tiles[tile] += 1.0
            after = router.embed(replace(batch, tiles=tiles))[where]
            assert [i for i in range(2) if not torch.equal(before[i], after[i])] == touched


def test_loss_is_the_mean_over_labelled_positions_without_placeholders(
    router: Router, config: RouterConfig, batch: RouterBatch
) -> None:
    with torch.no_grad():
        output = router(batch)
    terms = []
    for row, ids in enumerate(example_rows(config)):
        log = F.log_softmax(output.logits[row].double(), dim=-1)
        terms += [
            -log[position - 1, ids[position]]
            for position in range(1, len(ids))
            if ids[position] not in config.token_ids.placeholders
        ]
    assert output.loss_count == len(terms)
    torch.testing.assert_close(output.loss.double(), torch.stack(terms).mean(), atol=1e-5, rtol=1e-5)


def test_a_batch_without_labelled_positions_has_loss_zero_with_a_graph(
    router: Router, batch: RouterBatch
) -> None:
    assert batch.labels is not None
    output = router(replace(batch, labels=torch.full_like(batch.labels, -100)))
    assert (output.loss.item(), output.loss_count) == (0.0, 0)
    output.loss.backward()


def test_logits_of_labelled_positions_alone_give_the_same_loss_and_gradients(
    router: Router, batch: RouterBatch
) -> None:
    whole = router(batch)
    part = router(batch, only_labelled=True)
    assert whole.loss is not None
    assert part.loss is not None
    assert part.logits.shape == (part.loss_count, whole.logits.shape[2])
    assert part.loss_count == whole.loss_count
    torch.testing.assert_close(part.loss, whole.loss)
    weight = router.llm.lm_head.weight
    torch.testing.assert_close(
        torch.autograd.grad(part.loss, weight)[0], torch.autograd.grad(whole.loss, weight)[0]
    )


def test_queries_learn_from_a_loss_on_their_links_alone(router: Router, batch: RouterBatch) -> None:
    router = copy.deepcopy(router)
    links = router(batch).links
    links[2][0].embeddings.square().sum().backward()
    grads = {table: router.queries[table].weight.grad for table in router.config.tables}
    assert grads["gen"] is not None
    assert bool((grads["gen"].abs().sum(dim=1) > 0).all())
    assert all(grads[table] is None or not grads[table].any() for table in ("det", "pose"))


@pytest.mark.parametrize("frozen", [True, False])
def test_the_tower_learns_only_where_it_is_not_frozen(
    router: Router, batch: RouterBatch, frozen: bool
) -> None:
    changed = fresh(router, freeze_vision=frozen)
    changed(batch).loss.backward()
    stem = changed.vision_tower.embeddings.patch_embedding.weight
    assert stem.requires_grad is not frozen
    assert (stem.grad is None) is frozen
    assert changed.region_encoder.project.weight.grad is not None


def test_hidden_states_of_every_layer_come_when_asked_for(router: Router, batch: RouterBatch) -> None:
    with torch.no_grad():
        plain, full = router(batch), router(batch, output_hidden_states=True)
    assert plain.hidden_states == ()
    assert len(full.hidden_states) == 3
    torch.testing.assert_close(full.hidden_states[-1], full.hidden)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_kernels_agree(router: Router, batch: RouterBatch, attention: str) -> None:
    changed = copy.deepcopy(router)
    changed.language.set_attn_implementation(attention)
    with torch.no_grad():
        torch.testing.assert_close(changed(batch).hidden, router(batch).hidden, atol=1e-5, rtol=1e-5)


def without(batch: RouterBatch, text: str, config: RouterConfig) -> RouterBatch:
    """The batch with one special token of its first row turned into a word."""
    ids = batch.input_ids.clone()
    ids[0, (ids[0] == config.token_ids[text]).nonzero()[0, 0]] = 5
    return replace(batch, input_ids=ids)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda b, c: without(b, "<im_patch>", c),
            InputError,
            r"row 0 has 3 visual tokens, 1 tiles make 4",
        ),
        (lambda b, c: without(b, "<region>", c), InputError, r"row 0 has 0 region tokens for 1 regions"),
        (lambda b, c: without(b, "[EMB]", c), LinkError, r"'\[DET\]' .* needs 4 link placeholders, got 0"),
        (lambda b, c: without(b, "[DET]", c), LinkError, r"4 link placeholders .* follow no routing token"),
        (lambda b, c: replace(b, tiles=b.tiles[1:]), InputError, r"holds 4 tiles, but its rows speak of 5"),
        (lambda b, c: replace(b, regions=None), InputError, r"holds 0 regions, but its rows speak of 3"),
        (lambda b, c: replace(b, tile_counts=((1,),)), InputError, r"batch of 4 rows .* got 1 and 4"),
        (
            lambda b, c: replace(b, region_images=((1,), (1, 0), (), ())),
            InputError,
            r"row 0 has regions on images \[1\], but 1 images",
        ),
    ],
)
def test_counts_that_do_not_match_raise_with_both_numbers(
    router: Router, config: RouterConfig, batch: RouterBatch, change: Any, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        router(change(batch, config))


def test_a_row_cut_inside_a_group_raises(router: Router, config: RouterConfig, batch: RouterBatch) -> None:
    mask = batch.attention_mask.clone()
    mask[2, example_rows(config)[2].index(config.token_ids["[GEN]"]) + 4 :] = False
    with pytest.raises(LinkError, match=r"needs 7 link placeholders, got 3"):
        router(replace(batch, attention_mask=mask))


def test_words_alone_need_no_pictures(router: Router, config: RouterConfig) -> None:
    ids = torch.tensor([[config.token_ids.bos, 5, 6, 7]])
    with torch.no_grad():
        output = router(RouterBatch(input_ids=ids, attention_mask=torch.ones_like(ids, dtype=torch.bool)))
    assert output.loss is None
    assert output.links == ((),)


def test_regions_need_a_region_encoder(config: RouterConfig, batch: RouterBatch) -> None:
    router = Router(replace(config, region_encoder=False))
    with pytest.raises(InputError, match="no region encoder"):
        router(batch)


def test_a_token_that_the_router_does_not_know_has_no_queries(router: Router) -> None:
    token = RoutingToken(text="[NEW]", decoder="new", table="new", num_links=3)
    with pytest.raises(LinkError, match=r"needs 3 queries of table 'new', this router has 0"):
        router.query(token)


def test_merged_visual_tokens_fill_a_quarter_of_the_positions(config: RouterConfig) -> None:
    torch.manual_seed(0)
    router = Router(replace(config, pixel_shuffle=True, bridge="internvl_mlp"))
    batch = batch_of(router.config, example_rows(router.config))
    assert router.see(batch.tiles).tokens.shape == (5, 1, config.width)
    router(batch).loss.backward()


# peft 0.21 asks for a property that transformers 5 calls by a newer name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
class TestAdapters:
    """LoRA from peft, wrapped around the language model or put into it."""

    @pytest.fixture(params=["wrapped", "injected"])
    def adapted(self, router: Router, request: pytest.FixtureRequest) -> Router:
        from peft import LoraConfig, LoraModel, get_peft_model

        adapted = copy.deepcopy(router)
        names = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
        lora = LoraConfig(r=2, lora_alpha=4, target_modules=names, task_type="CAUSAL_LM")
        if request.param == "wrapped":
            adapted.llm = get_peft_model(adapted.llm, lora)
        else:
            LoraModel(adapted.llm, lora, "default")
        return adapted

    def test_fresh_adapters_change_nothing(self, router: Router, adapted: Router, batch: RouterBatch) -> None:
        with torch.no_grad():
            torch.testing.assert_close(adapted.eval()(batch).logits, router(batch).logits)

    def test_adapters_learn_and_count(self, adapted: Router, batch: RouterBatch) -> None:
        adapted(batch).loss.backward()
        grads = {name: p.grad for name, p in adapted.llm.named_parameters() if "lora_B" in name}
        assert len(grads) == 2 * 6
        assert all(grad is not None and bool(grad.any()) for grad in grads.values())
        before = adapted(batch).logits
        with torch.no_grad():
            for name, parameter in adapted.llm.named_parameters():
                if "lora_B" in name:
                    parameter += 0.1
        assert not torch.allclose(before, adapted(batch).logits, atol=1e-3)

    def test_merged_adapters_give_the_same_router(self, router: Router, batch: RouterBatch) -> None:
        from peft import LoraConfig, get_peft_model

        adapted = copy.deepcopy(router)
        adapted.llm = get_peft_model(adapted.llm, LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
        with torch.no_grad():
            for name, parameter in adapted.llm.named_parameters():
                if "lora_B" in name:
                    parameter += 0.05
            expected: Tensor = adapted.eval()(batch).logits
            adapted.llm = adapted.llm.merge_and_unload()  # type: ignore[operator]
            torch.testing.assert_close(adapted(batch).logits, expected, atol=1e-4, rtol=1e-4)
        assert adapted.state_dict().keys() == router.state_dict().keys()
