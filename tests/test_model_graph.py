"""The graph: counts, windows, relations, and no edge between dialogues."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.graph import build_graph, previous_by_speaker


@pytest.mark.parametrize(("length", "edges"), [(110, 2200), (48, 898), (10, 100), (1, 1), (2, 4)])
def test_edge_counts_with_self_loops(length: int, edges: int) -> None:
    graph = build_graph(torch.tensor([length]), torch.zeros(length, dtype=torch.long), 10, 10)
    assert len(graph.senders) == edges
    assert graph.neighbours == edges - length


def test_the_documented_example() -> None:
    graph = build_graph(torch.tensor([3]), torch.zeros(3, dtype=torch.long), 1, 1)
    assert graph.senders.tolist() == [1, 0, 2, 1, 0, 1, 2]
    assert graph.receivers.tolist() == [0, 1, 1, 2, 0, 1, 2]
    assert graph.edge_index.shape == (2, 7)


def naive(
    lengths: list[int], speakers: list[int], past: int, future: int, kind: str, cast: int
) -> list[tuple[int, int, int]]:
    edges, start = [], 0
    for n in lengths:
        for i in range(n):
            for j in range(max(0, i - past), min(n, i + future + 1)):
                a, b = speakers[start + i], speakers[start + j]
                pair = int(a != b) if kind == "same_diff" else a * cast + b
                if i != j:
                    edges.append((start + j, start + i, 2 * pair + int(j > i)))
        start += n
    return edges


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 14), min_size=1, max_size=5),
    st.integers(0, 5),
    st.integers(0, 5),
    st.sampled_from(["same_diff", "speaker_pair"]),
    st.randoms(use_true_random=False),
)
def test_equals_the_naive_loop(
    lengths: list[int],
    past: int,
    future: int,
    kind: Literal["same_diff", "speaker_pair"],
    random: object,
) -> None:
    speakers = [random.randrange(3) for _ in range(sum(lengths))]  # type: ignore[attr-defined]
    graph = build_graph(torch.tensor(lengths), torch.tensor(speakers), past, future, kind, 3)
    n = graph.neighbours
    found = zip(
        graph.senders[:n].tolist(), graph.receivers[:n].tolist(), graph.relations[:n].tolist(), strict=True
    )
    assert list(found) == naive(lengths, speakers, past, future, kind, 3)
    nodes = list(range(sum(lengths)))
    assert graph.senders[n:].tolist() == graph.receivers[n:].tolist() == nodes


def test_no_edge_between_dialogues() -> None:
    lengths = torch.tensor([5, 1, 30, 12])
    graph = build_graph(lengths, torch.zeros(48, dtype=torch.long), 10, 10)
    dialogue = torch.repeat_interleave(torch.arange(4), lengths)
    assert torch.equal(dialogue[graph.senders], dialogue[graph.receivers])


def test_relabelled_speakers_have_the_same_relations_under_same_diff() -> None:
    speakers = torch.tensor([0, 1, 1, 2, 0, 2])
    renamed = torch.tensor([7, 3, 3, 0, 7, 0])
    one, other = (build_graph(torch.tensor([6]), s, 3, 3).relations for s in (speakers, renamed))
    assert torch.equal(one, other)


def test_speaker_pair_refuses_an_unknown_speaker() -> None:
    with pytest.raises(ValueError, match="0 to 1 for relations by speaker pair"):
        build_graph(torch.tensor([2]), torch.tensor([0, 2]), 1, 1, "speaker_pair", 2)


def test_lengths_and_speakers_must_agree() -> None:
    with pytest.raises(ValueError, match="5 utterances in all but 4 speakers"):
        build_graph(torch.tensor([2, 3]), torch.zeros(4, dtype=torch.long), 1, 1)


def test_previous_utterance_of_the_same_speaker() -> None:
    speakers = torch.tensor([0, 1, 0, 0, 1, 0, 0])
    previous = previous_by_speaker(torch.tensor([4, 1, 2]), speakers)
    assert previous.tolist() == [-1, -1, 0, 2, -1, -1, 5]


def test_speaker_pair_takes_every_speaker_of_the_cast_and_none_below() -> None:
    one = torch.tensor([1])
    assert build_graph(one, torch.tensor([1]), 1, 1, "speaker_pair", 2).relations.tolist() == [6]
    assert build_graph(one, torch.tensor([0]), 1, 1, "speaker_pair", 1).relations.tolist() == [0]
    with pytest.raises(ValueError, match="got -1 to 0. Without a fixed cast use same_diff"):
        build_graph(torch.tensor([2]), torch.tensor([-1, 0]), 1, 1, "speaker_pair", 2)
    assert build_graph(one, torch.tensor([9]), 1, 1).relations.tolist() == [0]


def test_a_self_loop_is_of_its_own_speakers_past() -> None:
    speakers = torch.tensor([0, 2, 1])
    same = build_graph(torch.tensor([3]), speakers, 1, 1)
    assert same.relations[same.neighbours :].tolist() == [0, 0, 0]
    pair = build_graph(torch.tensor([3]), speakers, 1, 1, "speaker_pair", 3)
    assert pair.relations[pair.neighbours :].tolist() == [0, 16, 8]
    assert pair.nodes == 3


def test_no_dialogue_is_no_graph() -> None:
    none = torch.zeros(0, dtype=torch.long)
    for kind in ("same_diff", "speaker_pair"):
        graph = build_graph(none, none, 2, 2, kind)
        assert graph.nodes == graph.neighbours == len(graph.senders) == 0
