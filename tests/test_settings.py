"""Settings from TOML and flags: overrides, near misses, impossible values."""

from __future__ import annotations

from pathlib import Path

import pytest

from annotator.records import UsageError
from annotator.settings import RunSettings, load_settings


def test_flags_override_the_file(tmp_path: Path) -> None:
    config = tmp_path / "a.toml"
    config.write_text('batch-size = 4\ndialogue_gap = 30\nmodalities = ["text", "audio"]\n')
    settings = load_settings(config, {"batch_size": 8, "device": None})
    assert (settings.batch_size, settings.dialogue_gap, settings.device) == (8, 30.0, "auto")
    assert settings.modalities == ("text", "audio")


def test_unknown_key_names_the_near_miss(tmp_path: Path) -> None:
    config = tmp_path / "a.toml"
    config.write_text("batchsize = 4\n")
    with pytest.raises(UsageError, match="'batchsize'.*Did you mean 'batch_size'"):
        load_settings(config, {})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"modalities": "text,sound"}, "choose from text, audio, face"),
        ({"shard": "4"}, "write i/N"),
        ({"shard": "5/4"}, "write i/N"),
        ({"device": "gpu"}, "choose auto, cpu, cuda"),
        ({"language": "english"}, "ISO 639-1"),
        ({"min_speakers": 3, "max_speakers": 2}, "above max-speakers"),
        ({"speakers": 2, "max_speakers": 3}, "not both"),
        ({"speakers": 0}, "--speakers"),
        ({"dialogue_gap": -1.0}, "--dialogue-gap"),
    ],
)
def test_impossible_values_name_the_option(flags: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_settings(None, flags)


def test_shards_count_from_zero_or_one() -> None:
    assert load_settings(None, {"shard": "0/4"}).shard == (0, 4)
    assert load_settings(None, {"shard": "4/4"}).shard == (0, 4)


@pytest.mark.parametrize("content", ["a = [", "\xff\xfe"])
def test_a_broken_file_is_a_sentence(tmp_path: Path, content: str) -> None:
    config = tmp_path / "a.toml"
    config.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match="settings file"):
        load_settings(config, {})
    with pytest.raises(UsageError, match="no settings file"):
        load_settings(tmp_path / "absent.toml", {})


def test_every_key_is_documented() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "settings.md").read_text(encoding="utf-8")
    for name in RunSettings.model_fields:
        assert f"`{name.replace('_', '-')}`" in page, name
