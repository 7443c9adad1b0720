"""The command line as a user types it: help, examples, choices, completion, logs, settings files."""

from __future__ import annotations

import json
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from typer.testing import CliRunner

from annotator import choices, diarize, download, faces, transcribe
from annotator.cli import app
from annotator.export import FORMATS
from annotator.records import UsageError
from annotator.terminal import set_up_logging
from train.finetune import settings_from
from train.prepare import SOURCES
from train.settings import TrainSettings, changes_from

ROOT: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = ROOT.commands
WIDTH = 80
MOST_IN_A_PANEL = 13


def annotate(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "annotator", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_fits_the_terminal_and_ends_with_examples(name: str | None) -> None:
    command = ["-h"] if name is None else [name, "-h"]
    shown = CliRunner().invoke(app, command, env={"COLUMNS": str(WIDTH), "TERM": "dumb"})
    assert shown.exit_code == 0, shown.output
    assert max(map(len, shown.output.splitlines())) <= WIDTH
    assert "Examples:" in shown.output
    assert "annotate " + (name or "run") in shown.output.partition("Examples:")[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_of_the_help_are_commands_that_can_be_given(name: str) -> None:
    lines = [line.strip() for line in COMMANDS[name].epilog.splitlines()]
    calls = [shlex.split(line, comments=True) for line in lines if line.startswith("annotate ")]
    assert calls
    for _, called, *arguments in calls:
        COMMANDS[called].make_context(called, arguments)  # raises for an option or a value that is none


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_help_and_no_panel_is_too_long_to_read(name: str) -> None:
    panels: dict[str | None, int] = {}
    for option in COMMANDS[name].params:
        if option.param_type_name == "option":
            assert option.help and option.help.rstrip(")").endswith("."), option.opts
            panels[option.rich_help_panel] = panels.get(option.rich_help_panel, 0) + 1
    assert max(panels.values(), default=0) <= MOST_IN_A_PANEL
    assert len(panels) > 1 or sum(panels.values()) <= 8


def test_short_options_are_the_same_everywhere() -> None:
    meant = {"-o": "--out", "-q": "--quiet", "-v": "--verbose"}
    for name, command in COMMANDS.items():
        for option in command.params:
            for short, long in meant.items():
                assert (short in option.opts) == (long in option.opts), (name, option.opts)


def test_choices_are_what_the_code_knows() -> None:
    assert set(get_args(choices.Diarizer)) == {"auto", *diarize.DIARIZERS}
    assert set(get_args(choices.Transcriber)) == {"auto", *transcribe.TRANSCRIBERS}
    assert set(get_args(choices.FaceDetector)) == {"auto", *faces.DETECTORS}
    assert get_args(choices.ExportFormat) == FORMATS
    assert set(get_args(choices.Source)) == set(SOURCES)
    assert get_args(choices.Part) == tuple(download.PARTS)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "x", "-o", "y.csv", "--diarizer", "magic"], ["--diarizer", "magic", "pyannote", "embedded"]),
        (["export", "x.csv", "--to", "doc", "-o", "y"], ["--to", "doc", "srt", "meld-csv"]),
        (["train", "x", "-o", "y", "--device", "gpu"], ["--device", "gpu", "cuda:N"]),
        (["run", "x"], ["--out"]),
        (["run", "x", "-o", "y.csv", "--moddel", "z"], ["--moddel", "--model"]),
        (["ran"], ["ran"]),
    ],
)
def test_what_is_no_option_or_value_is_told_with_what_there_is(
    arguments: list[str], expected: list[str]
) -> None:
    ended = annotate(*arguments)
    assert ended.returncode == 2 and not ended.stdout
    first, hint = ended.stderr.splitlines()
    assert first.startswith("annotate: ") and all(word in first for word in expected), first
    known = arguments[0] in COMMANDS
    assert f"`annotate {arguments[0]} --help`" in hint if known else "`annotate --help`" in hint


def test_no_command_shows_the_help() -> None:
    ended = annotate()
    assert ended.returncode == 2 and "finetune" in ended.stdout and not ended.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_installed(shell: str, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # that of no terminal
    shown = annotate("--show-completion", shell, **home)
    assert shown.returncode == 0 and "_ANNOTATE_COMPLETE" in shown.stdout
    installed = annotate("--install-completion", shell, **home)
    assert installed.returncode == 0, installed.stderr
    assert any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("annotate export labels.csv --to ", "label-studio"),
        ("annotate run videos --device ", "cuda"),
        ("annotate download ", "whisper"),
        ("annotate fine", "finetune"),
    ],
)
def test_completion_offers_the_choices(words: str, offered: str) -> None:
    number = str(len(words.split(" ")) - 1)
    ended = annotate(_ANNOTATE_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=number)
    assert offered in ended.stdout.split(), ended.stderr


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """The tool's logger, put back as it was."""
    logger = logging.getLogger("annotator")
    before = logger.handlers[:], logger.level, logger.propagate
    yield logger
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:], logger.level, logger.propagate = before


def test_a_log_file_is_appended_to_and_has_what_quiet_hides(
    log: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("first", "second \x1b[31m"):
        set_up_logging(quiet=True, log_file=tmp_path / "run.log")
        log.info(text)
        log.warning("careful")
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert len(lines) == 4 and "INFO first" in lines[0] and "\\x1b" in lines[2] and "\x1b" not in lines[2]
    assert capsys.readouterr().err == "careful\ncareful\n"


def test_a_log_of_json_has_an_object_a_line(
    log: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging(log_file=tmp_path / "run.log", log_json=True)
    log.info("%s failed\n\x07", "a.wav")
    for text in ((tmp_path / "run.log").read_text(), capsys.readouterr().err):
        (line,) = text.splitlines()
        told = json.loads(line)
        assert told["level"] == "info" and told["message"] == "a.wav failed\n\x07" and "T" in told["time"]


def test_a_log_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    ended = annotate("merge", tmp_path / "t.csv", "--from", tmp_path, "--log-file", tmp_path / "no" / "x.log")
    assert ended.returncode == 2 and "log file" in ended.stderr and len(ended.stderr.splitlines()) == 1


def test_a_settings_file_of_a_training_is_overridden_by_options(tmp_path: Path) -> None:
    config = tmp_path / "train.toml"
    config.write_text("epochs = 7\nweight-decay = 0.5\npatience = 0\n")
    changes = changes_from(TrainSettings, config, epochs=3, lr=None)
    assert changes == {"epochs": 3, "weight_decay": 0.5, "patience": None}
    tuned = settings_from(config, epochs=None)
    assert (tuned.epochs, tuned.weight_decay, tuned.patience) == (7, 0.5, None)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("epoch = 7", "Did you mean 'epochs'"),
        ('epochs = "many"', "epochs: .*got 'many'"),
        ('schedule = "square"', "schedule: .*'cosine'"),
        ("epochs = 0", "epochs: .*greater than or equal to 1"),
    ],
)
def test_a_settings_file_of_a_training_with_a_fault_names_the_key(
    content: str, expected: str, tmp_path: Path
) -> None:
    config = tmp_path / "train.toml"
    config.write_text(content)
    with pytest.raises(UsageError, match=expected):
        changes_from(TrainSettings, config)
