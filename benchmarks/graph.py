"""Graph construction and the two-step convolution against the obvious ways to do them.

    python -m benchmarks.graph [--threads 1] [--rounds 15]

32 dialogues of 50 utterances with a window of 10 to each side: 30,080 edges, self-loops included. With one
thread the clock is the processor's time of this process, so a busy machine doesn't change the verdict; with
more it is the wall's. Contenders take turns, figures are medians.

The convolution, which weighs messages (with a gradient for the weights) and drops their elements, is compared
with two RGCNConv layers of the same widths on the same edges between utterances, which do neither; shown too
without the dropping. Judged at the paper's relations, eight for two known speakers; shown too at the four of
same and other speaker, where RGCNConv has half the products to do. Then the starter's whole network, from
features to logits: utterances a second, all dialogues in a batch and one dialogue after the other. Exits 1
when a limit is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor

from annotator.records import Conversation, Features
from annotator.weights import checkpoint_folder
from model import Graph, ModelConfig, build_graph, collate, load_checkpoint
from model.gcn import SpeakerEncoder

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit inside torch_geometric
    from torch_geometric.nn import RGCNConv

DIALOGUES, LENGTH, WINDOW, EDGES = 32, 50, 10, 30_080
SCALING = (625, 1250, 2500, 5000)  # utterances of one dialogue; the last is a day-long meeting
LIMITS = {
    "construction_vs_tensor_an_edge": 100.0,  # times faster
    "construction_vs_python_loop": 15.0,
    "convolution_vs_rgcn": 1.0,
    "utterances_a_second": 5000.0,  # of the whole network, batched
    "time_per_edge_growth": 1.5,  # longest dialogue over the shortest
    "memory_per_edge_growth": 1.5,
}


def tensor_an_edge(lengths: list[int], speakers: list[int]) -> tuple[Tensor, Tensor]:
    """Edges and relations as code that makes one small tensor for each edge does it."""
    edges, relations, start = [], [], 0
    for n in lengths:
        for i in range(n):
            for j in range(max(0, i - WINDOW), min(n, i + WINDOW + 1)):
                edges.append(torch.tensor([start + j, start + i]))
                other = speakers[start + i] != speakers[start + j]
                relations.append(2 * other + (j > i))
        start += n
    return torch.stack(edges).T, torch.tensor(relations)


def python_loop(lengths: list[int], speakers: list[int]) -> tuple[Tensor, Tensor]:
    """The same with plain lists, made tensors at the end."""
    senders, receivers, relations, start = [], [], [], 0
    for n in lengths:
        for i in range(n):
            for j in range(max(0, i - WINDOW), min(n, i + WINDOW + 1)):
                senders.append(start + j)
                receivers.append(start + i)
                relations.append(2 * (speakers[start + i] != speakers[start + j]) + (j > i))
        start += n
    return torch.tensor([senders, receivers]), torch.tensor(relations)


def medians_ms(rounds: int, clock: Callable[[], float], *contenders: Callable[[], object]) -> list[float]:
    """Median milliseconds of each contender, taking turns, after two rounds to warm up."""
    times: list[list[float]] = [[] for _ in contenders]
    for turn in range(rounds + 2):
        for run, kept in zip(contenders, times, strict=True):
            begin = clock()
            run()
            if turn >= 2:
                kept.append(1e3 * (clock() - begin))
    return [statistics.median(kept) for kept in times]


def convolution(relations: str, rounds: int, clock: Callable[[], float]) -> list[float]:
    """Milliseconds forward and backward: both steps, these without dropping and with edge attention, two
    RGCNConv layers.
    """
    config = ModelConfig.paper({"text": 8}, 6, relations=relations)
    lengths = torch.full((DIALOGUES,), LENGTH)
    speakers = torch.randint(0, 2, (DIALOGUES * LENGTH,))
    graph = build_graph(lengths, speakers, WINDOW, WINDOW, config.relations)
    encoder = SpeakerEncoder(config).train()
    g = torch.randn(graph.nodes, 2 * config.recurrent_width, requires_grad=True)
    alpha = encoder.attention(g, graph).detach().requires_grad_()
    first = RGCNConv(g.shape[1], config.graph_width, config.relation_count)
    second = RGCNConv(config.graph_width, config.graph_width, config.relation_count)
    edges = graph.edge_index[:, : graph.neighbours]  # the root weights see to the self-loops, in both
    kinds = graph.relations[: graph.neighbours]

    def two_steps() -> None:
        torch.autograd.backward(encoder.convolve(g, graph, alpha).sum())

    def undropped() -> None:
        encoder.eval()
        two_steps()
        encoder.train()

    def with_attention() -> None:
        torch.autograd.backward(encoder(g, graph).sum())

    def rgcn() -> None:
        torch.autograd.backward(second(first(g, edges, kinds).relu(), edges, kinds).relu().sum())

    return medians_ms(rounds, clock, two_steps, undropped, with_attention, rgcn)


def scaling(clock: Callable[[], float]) -> list[tuple[int, int, float, float]]:
    """(utterances, edges, ms, MB) of graph, weights and convolution, both ways, for one long dialogue.

    Memory is the growth of the process's peak; lengths ascend, so each sets a new one.
    """
    encoder = SpeakerEncoder(ModelConfig.paper({"text": 8}, 6)).train()
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there and in kB elsewhere

    def peak_mb() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6

    rows = []

    def step(n: int) -> Graph:
        g = torch.randn(n, 200, requires_grad=True)
        graph = build_graph(torch.tensor([n]), torch.randint(0, 4, (n,)), WINDOW, WINDOW)
        torch.autograd.backward(encoder(g, graph).sum())
        return graph

    step(50)  # loads what is loaded on first use
    base = peak_mb()
    for n in SCALING:
        edges = len(step(n).senders)
        grown = peak_mb() - base
        (ms,) = medians_ms(5, clock, lambda n=n: step(n))  # type: ignore[misc]
        rows.append((n, edges, ms, grown))
    return rows


def conversations(widths: Mapping[str, int], dialogues: int, length: int) -> list[Conversation]:
    """Dialogues of two with all modalities, of random features."""
    rng = np.random.default_rng(0)
    return [
        Conversation(
            rng.integers(0, 2, length),
            {
                m: Features(
                    rng.standard_normal((length, width)).astype(np.float32), np.ones(length, np.bool_)
                )
                for m, width in widths.items()
            },
        )
        for _ in range(dialogues)
    ]


def utterances_a_second(
    device: str,
    precision: torch.dtype,
    dialogues: int,
    length: int,
    batch: int,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Utterances a second of the starter's network, from features in memory to logits in memory.

    Args:
        batch: dialogues that go through it together.
        precision: of weights and features; bfloat16 is by autocast, over single precision.
    """
    checkpoint = load_checkpoint(checkpoint_folder("starter"))
    half = precision is torch.bfloat16
    own = torch.float32 if half else precision
    network = checkpoint.network.to(device, own).eval()
    config = checkpoint.config
    given = conversations(config.input_dims, dialogues, length)
    batches = []
    for first in range(0, dialogues, batch):
        made = collate(given[first : first + batch], config.modalities)
        made.features = {m: f.to(own) for m, f in made.features.items()}
        batches.append(made)

    def through() -> None:
        with torch.inference_mode(), torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
            for one in batches:
                network(one.to(device)).fine.cpu()

    (ms,) = medians_ms(rounds, clock, through)
    return dialogues * length / (ms / 1e3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    figures: dict[str, float] = {}

    rows = scaling(clock)
    print(f"{'one dialogue':>22} {'edges':>8} {'ms':>8} {'us/edge':>8} {'MB':>7} {'kB/edge':>8}")
    for n, edges, ms, mb in rows:
        print(
            f"{n:>11} utterances {edges:>8} {ms:>8.1f} {1e3 * ms / edges:>8.2f} "
            f"{mb:>7.0f} {1e3 * mb / edges:>8.2f}"
        )
    (_, few, short_ms, short_mb), (_, many, long_ms, long_mb) = rows[0], rows[-1]
    figures["time_per_edge_growth"] = (long_ms / many) / (short_ms / few)
    figures["memory_per_edge_growth"] = (long_mb / many) / (short_mb / few)

    # Like any larger tensor of a training step, this teaches the C library to keep freed memory; without it
    # every matrix over the edges is returned to the system and faulted in again.
    block = torch.zeros(31 << 18)
    del block
    lengths = torch.full((DIALOGUES,), LENGTH)
    speakers = torch.randint(0, 2, (DIALOGUES * LENGTH,))
    plain = lengths.tolist(), speakers.tolist()
    graph = build_graph(lengths, speakers, WINDOW, WINDOW)
    for edge_index, kinds in (tensor_an_edge(*plain), python_loop(*plain)):
        ours = sorted(zip(*graph.edge_index.tolist(), graph.relations.tolist(), strict=True))
        same = sorted(zip(*edge_index.tolist(), kinds.tolist(), strict=True)) == ours
        if not same or len(ours) != EDGES:
            raise SystemExit("the ways to build the graph disagree")
    small, loop = medians_ms(
        max(3, options.rounds // 3), clock, lambda: tensor_an_edge(*plain), lambda: python_loop(*plain)
    )
    (built,) = medians_ms(10 * options.rounds, clock, lambda: build_graph(lengths, speakers, WINDOW, WINDOW))
    figures |= {"construction_ms": built, "tensor_an_edge_ms": small, "python_loop_ms": loop}
    figures["construction_vs_tensor_an_edge"] = small / built
    figures["construction_vs_python_loop"] = loop / built
    print(f"\nconstruction, {EDGES} edges (ms)")
    print(f"  vectorised {built:.2f}   python loop {loop:.1f}   a tensor an edge {small:.1f}")

    print("\nforward + backward (ms)      two steps   without dropping   with attention   2 x RGCNConv")
    for relations, name in (("speaker_pair", "convolution"), ("same_diff", "convolution_same_diff")):
        ours_ms, undropped_ms, whole_ms, theirs_ms = convolution(relations, options.rounds, clock)
        figures |= {
            f"{name}_ms": ours_ms,
            f"{name}_undropped_ms": undropped_ms,
            f"{name}_with_attention_ms": whole_ms,
            f"{name}_rgcn_ms": theirs_ms,
        }
        figures[f"{name}_vs_rgcn"] = theirs_ms / ours_ms
        figures[f"{name}_undropped_vs_rgcn"] = theirs_ms / undropped_ms
        print(
            f"  {relations:<24} {ours_ms:>11.1f} {undropped_ms:>18.1f} {whole_ms:>16.1f} {theirs_ms:>14.1f}"
        )

    print("\nwhole network, utterances a second      a batch of all      one at a time")
    for precision, name in ((torch.float64, "double, as in a run"), (torch.float32, "single")):
        whole, single = (
            utterances_a_second("cpu", precision, DIALOGUES, LENGTH, many, max(3, options.rounds // 3), clock)
            for many in (DIALOGUES, 1)
        )
        kind = "" if precision is torch.float64 else "_single"
        figures |= {f"utterances_a_second{kind}": whole, f"utterances_a_second_one{kind}": single}
        print(f"  {name:<34} {whole:>16,.0f} {single:>18,.0f}")

    short = []
    print(f"\n{'':<34} {'measured':>9} {'limit':>9}")
    for name, limit in LIMITS.items():
        at_most = name.endswith("_growth")
        met = figures[name] <= limit if at_most else figures[name] >= limit
        short += [] if met else [name]
        bound = f"{'<=' if at_most else '>='} {limit:g}"
        print(f"{name:<34} {figures[name]:>9.2f} {bound:>9} {'' if met else '  falls short'}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    packages = {name: version(name) for name in ("torch", "torch_geometric", "numpy")}
    summary = {
        "benchmark": "graph",
        "figures": {name: round(value, 4) for name, value in figures.items()},
        "short": short,
        "cores": cores,
        "threads": options.threads,
        "versions": {"python": platform.python_version(), **packages},
    }
    print(json.dumps(summary))
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
