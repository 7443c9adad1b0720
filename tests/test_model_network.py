"""The whole network: shapes, invariances, missing modalities, and that it learns."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import Batch, ModelConfig, Network, Output, build_graph, collate, compute_loss
from model.alignment import CoAttentionBlock
from model.network import Classifier

DIMS = {"text": 12, "audio": 7, "face": 9}
SMALL: dict[str, Any] = {
    **{"text_width": 16, "audio_width": 8, "face_width": 8, "co_width": 8, "co_ffn": 16},
    **{"recurrent_width": 8, "graph_width": 8, "classifier_width": 16},
}


@dataclass(frozen=True)
class Vectors:
    values: NDArray[np.float32]
    present: NDArray[np.bool_]


@dataclass(frozen=True)
class Talk:
    speakers: NDArray[np.int64]
    features: dict[str, Vectors]


def talk(n: int, seed: int, absent: float = 0.0, speakers: int = 2) -> Talk:
    draw = np.random.default_rng(seed)
    features = {
        m: Vectors(draw.normal(size=(n, d)).astype(np.float32), draw.random(n) >= absent)
        for m, d in DIMS.items()
    }
    return Talk(draw.integers(0, speakers, n), features)


def network(preset: str = "default", **changes: Any) -> Network:
    torch.manual_seed(0)
    config = getattr(ModelConfig, preset)(DIMS, 4, **{**SMALL, **changes})
    return Network(config).eval()


def run(net: Network, *talks: Talk) -> Output:
    with torch.no_grad():
        out: Output = net(collate(talks, net.config.modalities))
    return out


def test_collate_pads_and_zeroes_what_is_absent() -> None:
    one, other = talk(3, 0), talk(5, 1, absent=0.5)
    other.features["audio"].values[~other.features["audio"].present] = np.nan
    del one.features["face"]
    batch = collate([one, other], ("text", "audio", "face"))
    assert batch.mask.sum(1).tolist() == [3, 5]
    assert batch.present.shape == (2, 5, 3) and not batch.present[0, :, 2].any()
    assert (batch.features["audio"][~batch.present[..., 1]] == 0).all()
    assert batch.features["face"].shape == (2, 5, 9)
    assert torch.equal(batch.to("cpu").speakers, batch.speakers)
    assert collate([one], ("face",)).features["face"].shape == (1, 3, 0)


@pytest.mark.parametrize(
    ("talks", "sentence"),
    [
        ([], "at least one conversation"),
        ([talk(0, 0)], "conversation 0 has no utterances"),
        ([talk(3, 0), Talk(np.zeros(2, np.int64), talk(3, 0).features)], "2 speakers but 3 rows of text"),
        (
            [talk(3, 0), Talk(np.zeros(3, np.int64), {"text": talk(3, 0).features["face"]})],
            "different widths",
        ),
        (
            [
                Talk(
                    np.zeros(1, np.int64),
                    {"text": Vectors(np.full((1, 12), np.inf, np.float32), np.ones(1, bool))},
                )
            ],
            "conversation 0, utterance 0: text features are not finite",
        ),
    ],
)
def test_collate_refuses(talks: list[Talk], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        collate(talks, ("text", "audio", "face"))


@pytest.mark.parametrize("preset", ["paper", "default"])
def test_shapes_of_the_published_sizes(preset: str) -> None:
    torch.manual_seed(0)
    net = Network(getattr(ModelConfig, preset)(DIMS, 7)).eval()
    out = run(net, talk(5, 0), talk(1, 1), talk(12, 2))
    assert out.fine.shape == (18, 7) and out.coarse.shape == (18, 3)
    assert out.hidden.shape == (18, 100) and out.present.shape == (18, 3)
    assert net.context.input_size == 1000


@pytest.mark.parametrize("changes", [{}, {"attention_span": 4}, {"missing": False, "modality_dropout": 0.0}])
@pytest.mark.parametrize("relations", ["same_diff", "speaker_pair"])
def test_a_dialogue_does_not_depend_on_its_batch(changes: dict[str, Any], relations: str) -> None:
    net = network(relations=relations, **changes)
    talks = [talk(n, n, absent=0.3) for n in (9, 1, 26, 4)]
    together = run(net, *talks)
    alone = [run(net, t) for t in talks]
    assert torch.allclose(together.fine, torch.cat([o.fine for o in alone]), atol=2e-6)
    assert torch.allclose(together.coarse, torch.cat([o.coarse for o in alone]), atol=2e-6)
    batch = collate(talks[:1], net.config.modalities)
    pad = torch.nn.functional.pad
    padded = Batch(
        {m: pad(x, (0, 0, 0, 5), value=9.0) for m, x in batch.features.items()},
        pad(batch.present, (0, 0, 0, 5), value=True),
        pad(batch.mask, (0, 5)),
        pad(batch.speakers, (0, 5), value=1),
    )
    with torch.no_grad():
        assert torch.allclose(net(padded).fine, alone[0].fine, atol=2e-6)


def test_relabelling_speakers_changes_nothing_under_same_diff() -> None:
    net, one = network(), talk(14, 3, speakers=3)
    renamed = Talk(np.array([5, 0, 2])[one.speakers], one.features)
    assert torch.equal(run(net, one).fine, run(net, renamed).fine)
    pairs = network(relations="speaker_pair", n_speakers=6)
    assert not torch.allclose(run(pairs, one).fine, run(pairs, renamed).fine)


@pytest.mark.parametrize("n", [1, 2, 12])
def test_monologues_and_single_utterances_run(n: int) -> None:
    out = run(network(), talk(n, 0, speakers=1))
    assert out.fine.shape == (n, 4) and out.fine.isfinite().all()


def gradients(net: Network, *talks: Talk, **targets: Tensor) -> None:
    out = net(collate(talks, net.config.modalities))
    fine = targets.get("fine", torch.arange(len(out.fine)) % 4)
    torch.autograd.backward(compute_loss(out, fine, torch.arange(len(out.fine)) % 3, net.config).total)


@pytest.mark.parametrize("gated", [False, True])
def test_gradients_reach_all_six_directions_and_all_else(gated: bool) -> None:
    net = network("paper", gated=gated, unimodal_heads=True, loss="uncertainty", contrast_weight=0.1).train()
    gradients(net, talk(8, 0), talk(5, 1))
    assert len(net.config.directions) == 6
    for m, n in net.config.directions:
        block = net.alignment.blocks[f"{m}_{n}_0"]
        assert isinstance(block, CoAttentionBlock)
        assert all(
            p.grad is not None and p.grad.abs().sum() > 0 for p in (block.query.weight, block.value.weight)
        )
    # A key's bias moves all scores of a query alike, which softmax doesn't see.
    silent = [
        name
        for name, p in net.named_parameters()
        if (p.grad is None or p.grad.abs().sum() == 0) and not name.endswith("key.bias")
    ]
    assert silent == []


def test_alpha_zero_gives_the_coarse_head_no_gradient() -> None:
    net = network("paper", alpha=0.0).train()
    gradients(net, talk(8, 0))
    assert not any(p.grad is not None and p.grad.any() for p in net.coarse.parameters())
    assert net.fine.weight.grad is not None and net.fine.weight.grad.any()


def test_an_absent_modality_is_not_looked_at() -> None:
    net = network()
    one = talk(9, 0, absent=0.4)
    hidden = {m: Vectors(v.values.copy(), v.present) for m, v in one.features.items()}
    for vectors in hidden.values():
        vectors.values[~vectors.present] = 1e6
    batch = collate([one], net.config.modalities)
    for k, m in enumerate(net.config.modalities):  # collate zeroes them; put other values there
        batch.features[m][~batch.present[..., k]] = float("nan")
    with torch.no_grad():
        assert torch.equal(net(batch).fine, run(net, Talk(one.speakers, hidden)).fine)
    everything = Talk(one.speakers, {m: Vectors(v.values, np.ones(9, bool)) for m, v in one.features.items()})
    assert not torch.allclose(run(net, everything).fine, run(net, one).fine)


def test_all_subsets_and_nothing_at_all_run() -> None:
    net = network()
    for size in range(4):
        for kept in combinations(DIMS, size):
            one = talk(6, 1)
            out = run(net, Talk(one.speakers, {m: one.features[m] for m in kept}))
            assert out.fine.isfinite().all()
            assert out.present.tolist() == [[m in kept for m in DIMS]] * 6
    half = talk(6, 1)  # one utterance without anything, among others
    for vectors in half.features.values():
        vectors.present[3] = False
    assert run(net, half).fine.isfinite().all()


@pytest.mark.parametrize("kept", [("text",), ("audio", "face"), ("text", "face")])
def test_networks_of_fewer_modalities(kept: tuple[str, ...]) -> None:
    config = ModelConfig.default({m: DIMS[m] for m in kept}, 4, **SMALL)
    assert run(Network(config).eval(), talk(7, 0)).fine.shape == (7, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"alignment": False},
        {"speaker_encoding": False},
        {"classifier_attention": "none"},
        {"classifier_attention": "beside"},
        {"coarse_head": "separate"},
        {"co_causal": True, "attention_span": 3},
        {"recurrent_layers": 2, "drop_root": True, "graph_drop": "edge"},
        {"shift_weight": 0.2, "context_dropout": 0.1},
    ],
)
def test_variants_learn(changes: dict[str, Any]) -> None:
    net = network(**changes).train()
    gradients(net, talk(8, 0, absent=0.2), talk(3, 1))
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    assert sum(p.grad is None for p in net.parameters()) == 0


def test_modality_dropout_keeps_one_and_meets_its_rate() -> None:
    net = network(modality_dropout=0.5)
    present = torch.rand(400, 20, 3) < 0.8
    assert torch.equal(net._hide(present), present)
    net.train()
    torch.manual_seed(0)
    kept = net._hide(present)
    assert not (kept & ~present).any()
    assert torch.equal(kept.any(-1), present.any(-1))
    three = present.all(-1)
    expected = 0.5 + 0.5**3 / 3  # the one that is kept when chance would hide all
    assert kept[three].float().mean().item() == pytest.approx(expected, abs=0.02)
    throughout = net._hide(torch.ones(400, 20, 3, dtype=torch.bool))
    share = (throughout == throughout[:, :1]).all(2).all(1).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.08)


def test_normalisation() -> None:
    net = network("paper")
    one = talk(6, 0)
    mean, std = np.linspace(-3, 4, 12), np.linspace(0.5, 2, 12)
    moved = (one.features["text"].values * std + mean).astype(np.float32)
    before = run(net, one).fine
    net.set_normalisation({"text": (mean, std)})
    after = run(
        net, Talk(one.speakers, {**one.features, "text": Vectors(moved, one.features["text"].present)})
    )
    assert torch.allclose(before, after.fine, atol=1e-5)
    net.set_normalisation({"audio": (torch.zeros(7), torch.zeros(7))})
    assert torch.equal(net.get_buffer("std_audio"), torch.ones(7))
    for bad, sentence in (
        ({"smell": (np.zeros(2), np.ones(2))}, "does not use"),
        ({"face": (np.zeros(2), np.ones(2))}, "must have 9 values"),
        ({"face": (np.full(9, np.nan), np.ones(9))}, "must be finite"),
    ):
        with pytest.raises(ValueError, match=sentence):
            net.set_normalisation(bad)


def test_features_of_another_width_are_refused() -> None:
    net, one = network(), talk(3, 0)
    one.features["text"] = Vectors(np.zeros((3, 5), np.float32), np.ones(3, bool))
    with pytest.raises(ValueError, match="text features have width 5, the network expects 12"):
        run(net, one)
    with pytest.raises(ValueError, match="marks 1 modalities"):
        net(collate([talk(3, 0)], ("text",)))


def test_bfloat16_autocast_is_close() -> None:
    net, batch = network().train(), collate([talk(12, 0), talk(5, 1)], tuple(DIMS))
    exact = run(net.eval(), talk(12, 0), talk(5, 1)).fine
    with torch.autocast("cpu", torch.bfloat16):
        out = net(batch)
        target = torch.zeros(17, dtype=torch.long)
        torch.autograd.backward(compute_loss(out, target, target, net.config).total)
    assert torch.allclose(out.fine.float(), exact, atol=0.03)
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("relations", ["same_diff", "speaker_pair"])
def test_cuda_equals_the_cpu(relations: str) -> None:
    net, talks = network(relations=relations), [talk(30, 0, absent=0.3), talk(1, 1), talk(7, 2)]
    batch = collate(talks, tuple(DIMS))
    exact = run(net, *talks)
    net.to("cuda")
    with torch.no_grad():
        assert torch.allclose(net(batch.to("cuda")).fine.cpu(), exact.fine, atol=1e-4)
    net.train()
    with torch.autocast("cuda", torch.bfloat16):
        out = net(batch.to("cuda"))
        target = torch.zeros(38, dtype=torch.long, device="cuda")
        torch.autograd.backward(compute_loss(out, target, target, net.config).total)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters() if p.requires_grad)


def test_the_same_seed_gives_the_same_training_on_the_cpu() -> None:
    def trained() -> Tensor:
        net = network(modality_dropout=0.3).train()
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(3):
            optimizer.zero_grad()
            gradients(net, talk(9, 0), talk(4, 1))
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    assert torch.equal(trained(), trained())


def fit(net: Network, talks: list[Talk], fine: Tensor, steps: int, lr: float) -> None:
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    batch, coarse = collate(talks, net.config.modalities), fine % 3
    net.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = compute_loss(net(batch), fine, coarse, net.config).total
        if loss < 0.05:
            break
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    net.eval()


@pytest.mark.parametrize("preset", ["paper", "default"])
def test_overfits_four_dialogues(preset: str) -> None:
    quiet = {"dropout": 0.0, "co_dropout": 0.0, "graph_drop": "none", "feature_dropout": 0.0}
    more = {"modality_dropout": 0.0, "classifier_attention": "beside"} if preset == "default" else {}
    net = network(preset, **quiet, **more)
    talks = [talk(n, n) for n in (6, 9, 3, 12)]
    fine = torch.randint(0, 4, (30,), generator=torch.Generator().manual_seed(1))
    fit(net, talks, fine, 200, 1e-2)
    out = run(net, *talks)
    assert (out.fine.argmax(1) == fine).float().mean() >= 0.95
    assert (out.coarse.argmax(1) == fine % 3).float().mean() >= 0.95


def planted(n: int, seed: int) -> tuple[Talk, NDArray[np.int64]]:
    """Four labels; text tells {0, 1} from {2, 3}, audio {0, 2} from {1, 3}, the face both, but noisily."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 4, n)
    one = talk(n, seed + 1000)
    one.features["text"].values[:, 0] += 3 * (2 * (labels // 2) - 1)
    one.features["audio"].values[:, 0] += 3 * (2 * (labels % 2) - 1)
    one.features["face"].values[np.arange(n), labels] += 2
    return one, labels


def test_planted_signal_in_three_modalities() -> None:
    made = [planted(20, seed) for seed in range(16)]
    held = [planted(20, seed) for seed in range(100, 112)]
    fine = torch.from_numpy(np.concatenate([labels for _, labels in made]))
    right = np.concatenate([labels for _, labels in held])

    def accuracy(net: Network, kept: tuple[str, ...]) -> float:
        shown = [Talk(t.speakers, {m: t.features[m] for m in kept}) for t, _ in held]
        return float((run(net, *shown).fine.argmax(1).numpy() == right).mean())

    net = network(modality_dropout=0.3, classifier_attention="beside", dropout=0.1)
    fit(net, [t for t, _ in made], fine, 60, 1e-2)
    by_subset = {k: accuracy(net, k) for n in (1, 2, 3) for k in combinations(DIMS, n)}
    assert by_subset["text", "audio", "face"] > 0.9
    assert by_subset["text", "audio"] > 0.85
    assert 0.4 < by_subset["text",] < 0.6 and 0.4 < by_subset["audio",] < 0.6
    for pair in combinations(DIMS, 2):
        assert by_subset[pair] > max(by_subset[pair[0],], by_subset[pair[1],]) - 0.05


def test_an_absent_modality_is_heard_by_nobody() -> None:
    """The learned token stands in its place in an utterance's own vector, and is no key for the others."""
    net, one = network(gated=False), talk(9, 0, absent=0.5)
    kept: list[Tensor] = []
    net.alignment.register_forward_hook(lambda module, given, fused: kept.append(fused))
    run(net, one)
    with torch.no_grad():
        net.missing["audio"] += 3.0
    run(net, one)
    starts = sum(net.config.width(m) for m in net.config.modalities)
    at = starts + net.config.co_width * net.config.directions.index(("text", "audio"))
    before, after = (fused[..., at : at + net.config.co_width] for fused in kept)
    assert torch.equal(before, after)
    assert not torch.equal(kept[0], kept[1])


@pytest.mark.parametrize("attention", ["replace", "beside", "none"])
def test_the_parts_are_joined_as_the_equations_say(attention: str) -> None:
    net, one = (
        network("paper", classifier_attention=attention, coarse_head="separate", shift_weight=0.1),
        talk(7, 0),
    )
    config = net.config
    batch = collate([one], config.modalities)
    with torch.no_grad():
        unimodal = {m: net.project[m](batch.features[m]) for m in config.modalities}
        keys = {m: batch.mask for m in config.modalities}
        g = net.context(net.alignment(unimodal, keys))[0][0]
        graph = build_graph(torch.tensor([7]), batch.speakers[0], 10, 10)
        assert net.speaker_encoder is not None and net.separate is not None and net.shift is not None
        x = torch.cat((g, net.speaker_encoder(g, graph)), -1)

        def hidden(classifier: Classifier) -> Tensor:
            joined = x
            if classifier.score is not None:
                attended = (classifier.score(x) @ x.T).softmax(1) @ x
                joined = attended if attention == "replace" else torch.cat((x, attended), -1)
            return torch.relu(classifier.hidden(joined))

        out = net(batch)
        fine = hidden(net.classifier)
        assert torch.allclose(out.hidden, fine, atol=1e-5)
        assert torch.allclose(out.fine, net.fine(fine), atol=1e-5)
        assert torch.allclose(out.coarse, net.coarse(hidden(net.separate)), atol=1e-5)
        before = fine[out.previous.clamp(min=0)]
        assert torch.allclose(out.shift, net.shift(torch.cat((fine, before), -1))[:, 0], atol=1e-5)


def test_rows_know_their_dialogue() -> None:
    out = run(network(shift_weight=0.1), talk(3, 0), talk(1, 1), talk(2, 2))
    assert out.dialogue is not None and out.dialogue.tolist() == [0, 0, 0, 1, 2, 2]
    assert out.previous is not None and (out.previous[[0, 3, 4]] == -1).all()


def test_a_feature_that_never_varies_has_no_weight() -> None:
    net, one = network("paper"), talk(5, 0)
    std = np.ones(12)
    std[3] = 0.0
    net.set_normalisation({"text": (np.zeros(12), std)})
    assert net.get_buffer("std_text")[3] == 1
    before = run(net, one).fine
    one.features["text"].values[:, 3] += 100
    assert torch.equal(run(net, one).fine, before)
    one.features["text"].values[:, 4] += 1
    assert not torch.equal(run(net, one).fine, before)


@pytest.mark.parametrize(
    ("mean", "std"),
    [(np.zeros(9), np.ones(8)), (np.zeros((9, 1)), np.ones(9)), (np.zeros(9), np.full(9, np.inf)),
     (np.zeros(9), -np.ones(9))],
)  # fmt: skip
def test_statistics_that_cannot_be_are_refused(mean: NDArray[np.float64], std: NDArray[np.float64]) -> None:
    net = network()
    with pytest.raises(ValueError, match="^normalisation of face must"):
        net.set_normalisation({"face": (mean, std)})
    assert torch.equal(net.get_buffer("std_face"), torch.ones(9))


def test_outliers_are_clipped_after_normalisation() -> None:
    net, one = network("paper", feature_clip=2.0), talk(4, 0)
    one.features["audio"].values[1, 2] = 2.0
    before = run(net, one).fine
    one.features["audio"].values[1, 2] = 50.0
    assert torch.equal(run(net, one).fine, before)
    one.features["audio"].values[1, 2] = -50.0
    assert not torch.equal(run(net, one).fine, before)
    free, far = network("paper"), talk(4, 0)
    far.features["audio"].values[1, 2] = 2.0
    before = run(free, far).fine
    far.features["audio"].values[1, 2] = 50.0
    assert not torch.equal(run(free, far).fine, before)


def test_collate_names_the_first_row_that_is_not_finite() -> None:
    one, other = talk(3, 0), talk(4, 1)
    other.features["face"].values[2, 5] = np.nan
    other.features["face"].values[3, 0] = np.inf
    other.features["face"].present[:] = True
    with pytest.raises(ValueError) as caught:
        collate([one, other], ("text", "audio", "face"))
    assert str(caught.value) == "conversation 1, utterance 2: face features are not finite"
    other.features["face"].present[2:] = False
    batch = collate([one, other], ("text", "face"))
    assert batch.present[1].tolist() == [[True, True]] * 2 + [[True, False]] * 2
    assert batch.mask[0].tolist() == [True, True, True, False] and batch.speakers.dtype == torch.long
    short = Vectors(np.zeros((3, 9), np.float32), np.ones(2, bool))
    with pytest.raises(
        ValueError, match="conversation 0 has 3 speakers but 3 rows of face features and 2 marks"
    ):
        collate([Talk(one.speakers, {"face": short})], ("face",))
