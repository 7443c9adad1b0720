"""From embeddings of stretches to speakers: how many voices, and whose each stretch is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from annotator.diarize import clustering
from annotator.diarize.clustering import (
    ANOTHER,
    HALF_S,
    HALF_WORTH_S,
    ONE_COSINE,
    SAME,
    SPREAD,
    SPREAD_SHORT,
    STAYS,
    UNKNOWN,
    WORTH,
    Stretches,
    Told,
    VoiceSpace,
    apart,
    best_path,
    centres,
    cluster,
    directions,
    likeness,
)

Floats = NDArray[np.float32]


def made_voices(
    count: int, stretches: int, seed: int, length_s: float = 2.0, between: float = 0.7
) -> tuple[Stretches, NDArray[np.int64]]:
    """Stretches in turns of four, voices at random directions, the room in all of them.

    Args:
        between: how far voices are from each other. As alike as the encoder's with 0.7: cosine 0.65 within a
            voice, 0.15 between voices.
    """
    rng = np.random.default_rng(seed)
    voices = rng.standard_normal((count, 192)) * between + rng.standard_normal(192) * 0.4
    who = np.repeat(rng.permutation(np.arange(stretches // 4 + 1) % count), 4)[:stretches]
    embeddings = (voices[who] + rng.standard_normal((stretches, 192)) * 0.6).astype(np.float32)
    seconds, pauses = np.full(stretches, length_s, np.float32), np.full(stretches, 0.5, np.float32)
    return Stretches(embeddings, seconds, pauses), who


def agreement(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    from scipy.optimize import linear_sum_assignment

    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum() / len(a))


def no_moods() -> VoiceSpace:
    return VoiceSpace(np.eye(192, 6, -186, dtype=np.float32))


def voices_at(cosine: float, count: int, stretches: int, seconds: float) -> Stretches:
    """Voices whose rows have this cosine to each other, and 1 to themselves, in turns of one."""
    basis = np.eye(192, dtype=np.float32)
    rows = np.sqrt(cosine) * basis[0] + np.sqrt(1 - cosine) * basis[1 + np.arange(stretches) % count]
    return Stretches(
        rows.astype(np.float32), np.full(stretches, seconds, np.float32), np.full(stretches, 0.5, np.float32)
    )


def unit(*numbers: float) -> Floats:
    row: Floats = directions(np.array([numbers], np.float32))[0]
    return row


# ---- the space, and what is told apart


def test_the_learnt_space_leaves_its_moods_out() -> None:
    from annotator.diarize.weights import VOICES

    space = VoiceSpace.load(VOICES)
    np.testing.assert_allclose(space.moods.T @ space.moods, np.eye(6), atol=1e-4)
    x = np.random.default_rng(0).standard_normal((5, 192)).astype(np.float32)
    found = space.project(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found @ space.moods, 0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(space.project(x + 3 * space.moods[:, 0]), found, atol=1e-4)


def test_what_voices_have_in_common_is_taken_off_at_norm_one() -> None:
    space = no_moods()
    x = np.zeros((1, 192), np.float32)
    x[0, :2] = 3.0, 4.0  # 0.6, 0.8
    common = np.zeros(192)
    common[0] = 0.6
    np.testing.assert_allclose(space.project(x, common)[0, :2], [0, 1], atol=1e-6)


def test_rows_of_zeros_stay() -> None:
    found = directions(np.array([[3.0, 4.0], [0.0, 0.0], [1e-5, 0.0]]))
    np.testing.assert_allclose(found, np.array([[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]]), atol=1e-6)


def test_what_the_segmentation_hears_counts_for_a_change() -> None:
    embeddings, seconds = np.ones((3, 192), np.float32), np.ones(3, np.float32)
    before = np.array([ANOTHER, ANOTHER, SAME])
    stays = Stretches(embeddings, seconds, np.array([np.inf, 0.1, 0.1]), before).stays
    assert stays[0] < stays[1] < stays[2]
    unknown = Stretches(embeddings, seconds, np.array([np.inf, 0.1, 1.0])).stays
    assert stays[1] < unknown[1] < stays[2] and unknown[2] < unknown[1]


def test_the_longer_the_pause_the_likelier_another_voice() -> None:
    pauses = np.array([0.15, 0.16, 0.4, 0.41, 0.8, 0.81, 2.0, 2.01])
    heard = Stretches(np.ones((8, 192), np.float32), np.ones(8, np.float32), pauses)
    rows = [0, 1, 1, 2, 2, 3, 3, 4]
    assert heard.stays.tolist() == STAYS[rows, UNKNOWN].tolist()
    assert (np.diff(STAYS, axis=0) < 0).all()
    assert (np.diff(STAYS[:4], axis=1) > 0).all()


# ---- likeness


def test_a_centre_is_the_mean_by_seconds() -> None:
    voices = np.stack([unit(1, 0, 0), unit(0, 1, 0), unit(0, 0, 1)])
    found = centres(voices, np.array([1, 3, 2], np.float32), np.array([0, 0, 1]))
    np.testing.assert_allclose(found, np.stack([unit(1, 3, 0), unit(0, 0, 1)]), atol=1e-6)


def test_likeness_leaves_a_stretch_out_of_its_own_voice() -> None:
    from annotator.diarize.embedded import surety  # PyTorch takes seconds

    voices = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    labels = np.array([0, 0, 1, 1])
    found = likeness(voices, np.ones(4, np.float32), labels)
    np.testing.assert_allclose(found[:, 0], [1, 1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found[:, 1], [0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(surety(Told(labels, found)), [1, 1, 0, 0], atol=1e-6)
    one = np.zeros(4, np.int64)
    assert (surety(Told(one, likeness(voices, np.ones(4, np.float32), one))) == 1).all()


def test_likeness_weighs_by_seconds_and_knows_nothing_of_a_stretch_alone() -> None:
    voices = np.stack([unit(1, 0), unit(0, 1), unit(1, 1), unit(3, 4)])
    found = likeness(voices, np.array([2, 1, 3, 1], np.float32), np.array([0, 0, 0, 1]))
    assert found[0, 0] == pytest.approx(
        float(unit(1, 0) @ directions((unit(0, 1) + 3 * unit(1, 1))[None])[0])
    )
    assert found[1, 0] == pytest.approx(
        float(unit(0, 1) @ directions((2 * unit(1, 0) + 3 * unit(1, 1))[None])[0])
    )
    assert found[3, 1] == 0 and found[0, 1] == pytest.approx(0.6)


@given(st.integers(2, 5), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_how_far_groups_are_apart_equals_the_naive_loop(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sums, seconds = rng.standard_normal((count, 7)).astype(np.float32), rng.uniform(0.2, 20, count)
    found = apart(sums, seconds.astype(np.float32))
    shares = np.sqrt(seconds / (seconds + HALF_S))
    for i, j in itertools.product(range(count), repeat=2):
        if i == j:
            assert found[i, j] == np.inf
            continue
        cosine = float(sums[i] @ sums[j] / np.linalg.norm(sums[i]) / np.linalg.norm(sums[j]))
        expected = shares[i] * shares[j]
        deviation = SPREAD + SPREAD_SHORT * (1 - expected)
        assert found[i, j] == pytest.approx((ONE_COSINE * expected - cosine) / deviation, abs=1e-3)
    for i in range(count):
        np.testing.assert_allclose(apart(sums, seconds.astype(np.float32), i), found[i], atol=1e-4)


# ---- clusterings


def test_the_two_that_are_least_apart_become_one() -> None:
    a, b, c = unit(1, 0, 0), unit(0, 1, 0), unit(0, 0, 1)
    near_a, near_b = directions((a + 0.1 * c)[None])[0], directions((b + 0.2 * c)[None])[0]
    voices = np.stack([a, b, c, near_a, near_b]).astype(np.float32)
    found = clustering._merged(voices, np.full(5, 4.0, np.float32), 4)
    assert sorted(found) == [2, 3, 4], "no more groups than asked for, and never one"
    assert found[4].tolist() == [0, 1, 2, 0, 3]
    assert found[3].tolist() == [0, 1, 2, 0, 1]
    third = directions((a + 0.12 * c)[None])[0]
    grown = clustering._merged(np.stack([a, near_a, third, b]), np.full(4, 4.0, np.float32), 2)
    assert grown[2].tolist() == [0, 0, 0, 1], "a group stays where its parts are"
    # The long group outweighs the short one that it takes in, wherever it stands.
    long = clustering._merged(np.stack([c, a, near_a]).astype(np.float32), np.array([1, 9, 1], np.float32), 3)
    assert long[2].tolist() == [0, 1, 1] and long[3].tolist() == [0, 1, 2]


def test_ward_groups_are_numbered_from_nought() -> None:
    noise = np.random.default_rng(0).standard_normal((12, 4)) * 0.05
    voices = np.repeat(np.eye(4), 3, axis=0) * np.repeat([1.0, 1.2, 1.4, 1.6], 3)[:, None] + noise
    found = clustering._ward(voices.astype(np.float32), 4)
    assert sorted(found) == [2, 3, 4]
    assert agreement(found[4], np.repeat(np.arange(4), 3)) == 1
    assert all(set(labels.tolist()) == set(range(count)) for count, labels in found.items())


def test_spectral_groups_are_those_of_the_voices() -> None:
    heard, who = made_voices(3, 60, 1)
    voices = directions(heard.embeddings - heard.embeddings.mean(axis=0))
    found = clustering._spectral(voices, heard.seconds, 4)
    assert sorted(found) == [2, 3, 4] and agreement(found[3], who) == 1
    assert len(set(found[2].tolist())) == 2


def test_long_stretches_found_voices_where_there_are_enough() -> None:
    def founding(*seconds: float, count: int = 2) -> list[int]:
        return [int(i) for i in clustering._founding(np.array(seconds, np.float32), count)]

    assert founding(0.5, 0.4, 0.6, 0.5, 0.1, 0.5) == [0, 2, 3, 5]
    assert founding(0.5, 0.4, 0.6, 0.5, 0.1) == [0, 1, 2, 3], "too few of half a second"
    assert founding(0.5, 0.2, 0.6, 0.5, 0.1) == [0, 1, 2, 3, 4], "too few of either"


def test_of_too_many_stretches_some_are_picked_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "LINKED", 4)
    found = clustering._founding(np.ones(10, np.float32), 2)
    assert found.tolist() == [0, 3, 6, 9]


def test_the_others_go_to_the_nearest_voice() -> None:
    voices = np.stack([unit(1, 0), unit(0, 1), unit(9, 1), unit(1, 9), unit(2, 1)])
    picked = np.array([1, 2])
    labels = clustering._spread(np.array([7, 3]), picked, voices, np.ones(5, np.float32))
    assert labels.tolist() == [0, 1, 0, 1, 0]


def test_the_mean_cosine_is_of_two_different_rows() -> None:
    voices = directions(np.random.default_rng(3).standard_normal((9, 5)))
    pairs = [float(voices[i] @ voices[j]) for i, j in itertools.permutations(range(9), 2)]
    assert clustering._mean_cosine(voices) == pytest.approx(np.mean(pairs), abs=1e-5)


def test_a_further_voice_must_bring_more_the_more_is_said() -> None:
    voices = np.stack([unit(1, 0), unit(1, 0), unit(0, 1), unit(0, 1)])
    labels = np.array([0, 0, 1, 1])
    for seconds in (1.0, 30.0):
        said = 4 * seconds
        must = WORTH * said / (said + HALF_WORTH_S) / 2
        found = clustering._worth(voices, np.full(4, seconds, np.float32), labels, 2)
        assert found == pytest.approx(1 - must, abs=1e-5)
    three = clustering._worth(voices, np.ones(4, np.float32), labels, 3)
    two = clustering._worth(voices, np.ones(4, np.float32), labels, 2)
    assert two - three == pytest.approx(WORTH * 4 / (4 + HALF_WORTH_S) / 3, abs=1e-5)
    one = clustering._worth(voices, np.ones(4, np.float32), np.zeros(4, np.int64), 1)
    assert one == pytest.approx(np.sqrt(1 / 5), abs=1e-5), "a single voice need not bring anything"


def test_the_distance_of_voices_is_the_least_and_the_mean_by_seconds() -> None:
    voices = np.stack([unit(1, 0, 0), unit(9, 1, 0), unit(0, 0, 1)])
    seconds = np.array([2, 3, 10], np.float32)
    matrix = apart(voices * seconds[:, None], seconds)
    near = matrix.min(axis=1)
    least, mean = clustering._distance(voices, seconds, np.arange(3))
    assert least == pytest.approx(near.min(), abs=1e-4)
    assert mean == pytest.approx((near * seconds).sum() / 15, abs=1e-4)


# ---- whole recordings


@pytest.mark.parametrize("stretches", [20, 150])  # both ways of clustering
@pytest.mark.parametrize("count", [1, 2, 5])
def test_number_of_voices_is_found(count: int, stretches: int) -> None:
    heard, who = made_voices(count, stretches, count)
    labels = cluster(heard, no_moods(), 1, None).labels
    assert labels.max() + 1 == count
    assert agreement(labels, who) > 0.98


@pytest.mark.parametrize(("least", "most", "found"), [(1, 2, 2), (7, 7, 7), (5, 9, 5), (1, 1, 1), (3, 3, 3)])
def test_number_of_speakers_stays_in_bounds(least: int, most: int, found: int) -> None:
    whole, _ = made_voices(5, 150, 0)
    for n in (20, 150):  # both ways of clustering
        heard = Stretches(whole.embeddings[:n], whole.seconds[:n], whole.pauses[:n])
        labels = cluster(heard, no_moods(), least, most).labels
        assert labels.shape == (n,)
        assert set(labels.tolist()) == set(range(labels.max() + 1))
        assert least <= labels.max() + 1 <= most
    assert labels.max() + 1 == found


def test_a_recording_of_few_stretches_has_no_more_voices_than_those() -> None:
    heard = voices_at(0.0, 3, 3, 2.0)
    for n, bounds, count in ((1, (1, None), 1), (1, (2, 4), 1), (2, (2, 2), 2), (3, (5, 9), 3)):
        part = Stretches(heard.embeddings[:n], heard.seconds[:n], heard.pauses[:n])
        outcome = cluster(part, no_moods(), *bounds)
        assert outcome.labels.max() + 1 == count and outcome.likeness.shape == (n, count)
    both = Stretches(heard.embeddings[:2], heard.seconds[:2], heard.pauses[:2])
    assert cluster(both, no_moods(), 1, 1).labels.tolist() == [0, 0]


def test_a_given_number_means_voices_and_no_splinters() -> None:
    """Two voices, and half a second that is like neither: it is no voice of its own."""
    heard, who = made_voices(2, 20, 4)
    odd = np.random.default_rng(1).standard_normal((1, 192)).astype(np.float32)
    with_odd = Stretches(
        np.concatenate([heard.embeddings[:10], odd, heard.embeddings[10:]]),
        np.concatenate([heard.seconds[:10], [0.5], heard.seconds[10:]]).astype(np.float32),
        np.full(21, 0.5, np.float32),
    )
    labels = np.delete(cluster(with_odd, no_moods(), 2, 2).labels, 10)
    assert agreement(labels, who) == 1


def test_in_a_long_recording_voices_that_are_alike_are_moods_of_one() -> None:
    """Moods of one voice: cosine 0.55 and more; of 0.3, they are two."""
    for cosine, seconds, count in ((0.6, 10.0, 1), (0.3, 10.0, 2), (0.3, 2.0, 2)):
        heard = voices_at(cosine, 2, 20, seconds)
        noise = np.random.default_rng(0).standard_normal(heard.embeddings.shape) * 0.02
        noisy = Stretches((heard.embeddings + noise).astype(np.float32), heard.seconds, heard.pauses)
        labels = cluster(noisy, no_moods(), 1, None).labels
        assert labels.max() + 1 == count, (cosine, seconds)
    asked = cluster(voices_at(0.6, 2, 20, 10.0), no_moods(), 2, None).labels
    assert asked.max() + 1 == 2, "who asks for two gets two"


@pytest.mark.parametrize(("seconds", "count"), [(2.0, 3), (20.0, 2)])
def test_a_voice_that_is_heard_once_counts_in_a_short_recording_only(seconds: float, count: int) -> None:
    """It is far from both others; in a long recording a mood can be as far away."""
    two = voices_at(0.0, 2, 12, seconds)
    embeddings = np.insert(two.embeddings, 6, np.eye(192, dtype=np.float32)[9], axis=0)
    heard = Stretches(embeddings, np.full(13, seconds, np.float32), np.full(13, 0.5, np.float32))
    labels = cluster(heard, no_moods(), 1, None).labels
    assert labels.max() + 1 == count
    assert (labels == labels[6]).sum() == (1 if count == 3 else 7)


def test_no_voice_is_lost_on_the_way() -> None:
    """A stretch of a third voice in the middle of another's turn stays a voice where three are asked for."""
    heard, who = made_voices(2, 24, 5)
    rng = np.random.default_rng(9)
    embeddings = heard.embeddings.copy()
    embeddings[9:11] = (rng.standard_normal(192) * 0.8 + rng.standard_normal((2, 192)) * 0.3).astype(
        np.float32
    )
    labels = cluster(Stretches(embeddings, heard.seconds, heard.pauses), no_moods(), 3, 3).labels
    assert labels[9] == labels[10] and (labels == labels[9]).sum() == 2


@given(st.integers(1, 7), st.integers(1, 4), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_best_path_is_the_best_of_all(length: int, speakers: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    near, stay = rng.standard_normal((length, speakers)).astype(np.float32), rng.uniform(0.05, 0.95, length)
    keep, change = np.log(stay), np.log((1 - stay) / max(speakers - 1, 1))

    def worth(path: tuple[int, ...]) -> float:
        moves = [keep[t] if path[t] == path[t - 1] else change[t] for t in range(1, length)]
        return float(sum(near[t, k] for t, k in enumerate(path)) + sum(moves))

    best = max(worth(path) for path in itertools.product(range(speakers), repeat=length))
    assert worth(tuple(best_path(near, stay).tolist())) == pytest.approx(best, abs=1e-4)
