from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from superlink.router.sampling import choose

LOGITS = torch.tensor([2.0, 0.5, -1.0, 1.5, -torch.inf, 0.0])


def drawn(temperature: float, top_p: float, count: int = 4000) -> torch.Tensor:
    """How often each id comes, for evenly spread draws."""
    ids = choose(
        LOGITS.expand(count, -1),
        temperatures=[temperature] * count,
        top_ps=[top_p] * count,
        draws=[(index + 0.5) / count for index in range(count)],
    )
    return torch.bincount(torch.tensor(ids), minlength=len(LOGITS)) / count


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_ids_come_as_often_as_their_probability(temperature: float) -> None:
    expected = torch.softmax(LOGITS / temperature, dim=0)
    torch.testing.assert_close(drawn(temperature, 1.0), expected, atol=1e-3, rtol=0)


def test_top_p_keeps_the_likeliest_ids_that_reach_it_together() -> None:
    # Probabilities .50, .30, .11, ...: two ids reach .7, three are needed for .85.
    assert drawn(1.0, 0.7).nonzero().flatten().tolist() == [0, 3]
    assert drawn(1.0, 0.85).nonzero().flatten().tolist() == [0, 1, 3]
    assert drawn(1.0, 1e-9).tolist()[0] == 1


def test_without_temperature_the_likeliest_id_is_taken() -> None:
    ids = choose(torch.stack([LOGITS, LOGITS.flip(0)]), temperatures=[0, 0], top_ps=[1, 1], draws=[0.9, 0.9])
    assert ids == [0, 5]


@given(
    rows=st.lists(
        st.tuples(
            st.lists(st.floats(-5, 5), min_size=4, max_size=4),
            st.sampled_from([0.0, 0.3, 1.0, 5.0]),
            st.floats(0.01, 1),
            st.floats(0, 1, exclude_max=True),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_the_choice_of_a_row_depends_on_that_row_alone(
    rows: list[tuple[list[float], float, float, float]],
) -> None:
    def chosen(some: list[tuple[list[float], float, float, float]]) -> list[int]:
        logits, temperatures, top_ps, draws = zip(*some, strict=True)
        return choose(torch.tensor(logits), temperatures=temperatures, top_ps=top_ps, draws=draws)

    assert chosen(rows) == [chosen([row])[0] for row in rows]


@given(draw=st.floats(0, 1, exclude_max=True), top_p=st.floats(0.01, 1))
def test_a_banned_id_is_never_drawn(draw: float, top_p: float) -> None:
    assert choose(LOGITS[None], temperatures=[100.0], top_ps=[top_p], draws=[draw]) != [4]
