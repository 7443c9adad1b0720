"""The configuration: presets, JSON, and sentences for what can't work."""

from __future__ import annotations

import json
from typing import Any

import pytest

from model import ModelConfig

DIMS = {"text": 384, "audio": 88, "face": 342}


def test_paper_has_the_published_sizes() -> None:
    config = ModelConfig.paper(DIMS, 6, relations="speaker_pair", alpha=0.7)
    assert [config.width(m) for m in config.modalities] == [200, 100, 100]
    assert config.fused_width == 1000
    assert len(config.directions) == 6
    assert config.relation_count == 8
    assert (config.window_past, config.window_future) == (10, 10)
    assert (config.graph_drop, config.graph_drop_rate) == ("message", 0.2)
    # Nothing beyond the paper.
    assert not config.missing and not config.gated and not config.unimodal_heads
    assert config.modality_dropout == config.logit_adjustment == config.contrast_weight == 0


def test_subsets_keep_their_pairs_only() -> None:
    assert ModelConfig.paper({"audio": 88, "text": 384}, 6).modalities == ("text", "audio")
    assert ModelConfig.paper({"text": 384, "face": 342}, 6).pairs == (("face", "text"),)
    assert ModelConfig.paper({"face": 342}, 6).fused_width == 100
    assert ModelConfig.paper(DIMS, 6, alignment=False).fused_width == 400


def test_json_round_trip() -> None:
    config = ModelConfig.default(DIMS, 7, attention_span=64, bases=2, loss="uncertainty")
    stored = json.loads(json.dumps(config.to_json()))
    assert ModelConfig.from_json(stored) == config
    assert config.replace(alpha=0.25).alpha == 0.25


def test_the_network_and_the_tool_have_the_same_modalities_and_sentiments() -> None:
    """The network imports nothing of the tool, so both say it."""
    from annotator import records
    from model.config import MODALITIES, SENTIMENTS

    assert MODALITIES == records.MODALITIES and SENTIMENTS == records.SENTIMENTS


def test_every_field_is_documented() -> None:
    import ast
    import inspect

    import model.config

    body = next(
        n
        for n in ast.parse(inspect.getsource(model.config)).body
        if isinstance(n, ast.ClassDef) and n.name == "ModelConfig"
    ).body
    choices = [
        node.target.id  # type: ignore[union-attr]
        for node, after in zip(body, body[1:], strict=False)
        if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr) and "[S]" in ast.unparse(after)
    ]
    for silent in (
        "co_width",
        "co_layers",
        "relations",
        "c_ir",
        "second_step",
        "self_loops",
        "loss",
        "dropout",
    ):
        assert silent in choices


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"windw_past": 3}, "did you mean 'window_past'"),
        ({"co_heads": 3}, "multiple of co_heads"),
        ({"relations": "none"}, "relations: input should be 'speaker_pair' or 'same_diff'; got 'none'"),
        ({"alpha": 1.5}, "alpha: input should be less than or equal to 1"),
        ({"alpha": float("nan")}, "alpha: input should be a finite number"),
        ({"classes": 1}, "classes: input should be greater than or equal to 2"),
        ({"classes": "7"}, "classes: input should be a valid integer; got '7'"),
        ({"missing": 1}, "missing: input should be a valid boolean"),
        ({"modality_dropout": 0.2}, "needs missing"),
        ({"modalities": ["face", "text"]}, "in this order"),
        ({"input_dims": {"text": 384}}, "exactly the modalities"),
        (
            {"input_dims": {"text": 0, "audio": 88, "face": 342}},
            r"input_dims\.text: input should be greater than or equal to 1",
        ),
        ({"attention_span": 0}, "attention_span"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], sentence: str) -> None:
    values = {**ModelConfig.paper(DIMS, 6).to_json(), **changes}
    with pytest.raises(ValueError, match=sentence):
        ModelConfig.from_json(values)


def test_what_is_needed_is_named() -> None:
    with pytest.raises(ValueError, match="'classes' is missing"):
        ModelConfig.from_json({"modalities": ["text"], "input_dims": {"text": 4}})


def test_a_long_value_is_cut_in_the_sentence() -> None:
    values = ModelConfig.paper(DIMS, 6).to_json()
    for length, shown in ((58, "'" + "x" * 58 + "'"), (59, "'" + "x" * 59 + "...")):
        with pytest.raises(ValueError) as caught:
            ModelConfig.from_json({**values, "relations": "x" * length})
        assert str(caught.value) == (f"relations: input should be 'speaker_pair' or 'same_diff'; got {shown}")


def test_an_unknown_key_without_a_near_one_is_only_named() -> None:
    with pytest.raises(ValueError) as caught:
        ModelConfig.from_json({**ModelConfig.paper(DIMS, 6).to_json(), "qqqq": 1})
    assert str(caught.value) == "unknown key 'qqqq'"
    with pytest.raises(ValueError, match="^modalities must be some of text, audio, face, in this order"):
        ModelConfig.from_json({**ModelConfig.paper(DIMS, 6).to_json(), "modalities": []})


def test_the_default_is_for_recordings_from_anywhere() -> None:
    config = ModelConfig.default(DIMS, 7, alpha=0.6)
    assert (config.missing, config.modality_dropout, config.gated, config.alpha) == (True, 0.2, True, 0.6)
    assert (config.classifier_attention, config.feature_clip, config.feature_dropout) == ("beside", 8.0, 0.1)
    assert ModelConfig.default(DIMS, 7).alpha == 0.3


def test_every_size_of_a_stranger_is_within_reason() -> None:
    values = ModelConfig.paper(DIMS, 6).to_json()
    for field, most in (("window_past", 10_000), ("co_layers", 100), ("classes", 1000), ("n_speakers", 1000)):
        assert getattr(ModelConfig.from_json({**values, field: most}), field) == most
        with pytest.raises(ValueError, match=f"{field}: input should be less than or equal to {most}"):
            ModelConfig.from_json({**values, field: most + 1})
