from __future__ import annotations

import signal
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superlink.router.errors import DataError
from superlink.workflows.data.samples import Sample
from superlink.workflows.train.config import Source
from superlink.workflows.train.data import PATTERN, SHUFFLED, Mixture, StepBatches, batches
from tests.workflows.train.tiny_system import ToySamples


class Numbered:
    """Sample `index` says where it comes from."""

    def __init__(self, name: str, length: int) -> None:
        self.name, self.length = name, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        assert 0 <= index < self.length
        return Sample(conversation=(), image=None, targets=(), task="", source=f"{self.name}:{index}")


def mixture(*sources: tuple[str, int, float], seed: int = 3) -> Mixture:
    return Mixture(
        [Source(name=n, open=lambda n=n, k=k: Numbered(n, k), weight=w) for n, k, w in sources], seed
    )


def sources_of(samples: list[Sample]) -> list[str]:
    return [sample.source for sample in samples]


@given(
    world=st.sampled_from([1, 2, 3, 4]),
    step=st.integers(0, 10_000),
    seed=st.integers(0, 99),
    lengths=st.tuples(st.integers(1, 50), st.integers(1, 5000)),
)
def test_workers_together_see_the_batch_that_one_worker_sees(
    world: int, step: int, seed: int, lengths: tuple[int, int]
) -> None:
    stream = mixture(("a", lengths[0], 1.0), ("b", lengths[1], 2.5), seed=seed)
    whole = StepBatches(stream, global_batch=12, rank=0, world=1)[step]
    shares = [StepBatches(stream, global_batch=12, rank=rank, world=world)[step] for rank in range(world)]
    assert {len(share) for share in shares} == {12 // world}
    assert sorted(sources_of(whole)) == sorted(s for share in shares for s in sources_of(share))


def test_every_sample_of_a_source_comes_once_an_epoch_in_a_new_order() -> None:
    stream = mixture(("a", 40, 1.0))
    epochs = [sources_of([stream[i] for i in range(e * 40, e * 40 + 40)]) for e in range(3)]
    assert all(sorted(epoch) == sorted(f"a:{i}" for i in range(40)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_sources_come_in_proportion_to_their_weights_and_each_epoch_is_whole() -> None:
    stream = mixture(("a", 7, 3.0), ("b", 1000, 1.0))
    drawn = [stream.locate(position) for position in range(4 * PATTERN)]
    share = Counter(source for source, _ in drawn)
    assert share[0] / len(drawn) == pytest.approx(0.75, abs=0.01)
    counts = Counter(index for source, index in drawn if source == 0)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_very_long_source_is_drawn_from_all_over() -> None:
    stream = mixture(("a", 10 * SHUFFLED, 1.0))
    drawn = [stream.locate(position)[1] for position in range(500)]
    assert len(set(drawn)) == 500
    assert sum(index > 5 * SHUFFLED for index in drawn) == pytest.approx(250, abs=60)


def test_the_order_depends_on_the_seed_and_on_nothing_else() -> None:
    draws = [[mixture(("a", 99, 1.0), seed=seed).locate(i) for i in range(30)] for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_an_empty_source_is_named() -> None:
    with pytest.raises(DataError, match="'nothing' has no samples"):
        mixture(("nothing", 0, 1.0))


@pytest.mark.parametrize("prefetch", [0, 1])
def test_a_stream_taken_up_at_a_step_goes_on_with_that_step(prefetch: int) -> None:
    stream = Mixture([Source(name="toy", open=ToySamples)], seed=0)
    dataset = StepBatches(stream, global_batch=4, rank=0, world=1)
    whole = [sources_of(batch) for batch in batches(dataset, range(0, 6), prefetch=0)]
    resumed = [sources_of(batch) for batch in batches(dataset, range(4, 6), prefetch=prefetch)]
    assert resumed == whole[4:]


class Listening:
    """Samples that say whether their process would end at Ctrl-C."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Sample:
        deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        return Sample(conversation=(), image=None, targets=(), task="", source="deaf" if deaf else "listens")


def test_processes_that_make_samples_ahead_outlive_ctrl_c() -> None:
    stream = Mixture([Source(name="a", open=Listening)], seed=0)
    dataset = StepBatches(stream, global_batch=2, rank=0, world=1)
    assert [sources_of(batch) for batch in batches(dataset, range(2), prefetch=1)] == [["deaf"] * 2] * 2
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def test_text_only_batches_keep_the_words_and_drop_the_rest() -> None:
    stream = Mixture([Source(name="toy", open=ToySamples)], seed=0)
    plain, stripped = (
        StepBatches(stream, global_batch=8, rank=0, world=1, text_only=flag)[0] for flag in (False, True)
    )
    words = {s.source: [m.text for m in s.conversation] for s in plain}
    assert {s.source: [m.text for m in s.conversation] for s in stripped} == words
    assert all(s.image is None and not s.targets for s in stripped)
    assert not any(m.images for s in stripped for m in s.conversation)


@given(step=st.integers(0, 500), seed=st.integers(0, 99))
def test_every_step_and_every_half_of_it_has_its_share_of_each_source(step: int, seed: int) -> None:
    stream = mixture(("a", 5000, 1.0), ("b", 5000, 2.0), ("c", 5000, 3.0), seed=seed)
    for rank in (0, 1):
        half = StepBatches(stream, global_batch=48, rank=rank, world=2)[step]
        counts = Counter(source.partition(":")[0] for source in sources_of(half))
        assert all(abs(counts[name] - share) <= 1 for name, share in (("a", 4), ("b", 8), ("c", 12)))
