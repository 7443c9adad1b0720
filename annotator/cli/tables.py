"""Commands that make the table and what is read from it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from annotator.choices import Channels, Diarizer, Engine, ExportFormat, ReviewOrder, Transcriber
from annotator.cli.base import (
    MACHINE,
    RUN,
    USE,
    Config,
    Device,
    LogFile,
    LogJson,
    Out,
    Quiet,
    Verbose,
    command,
    say,
    set_up_logging,
    settings_of_run,
)
from annotator.records import SetupError, Stopped
from annotator.terminal import counted

MODEL, SPEECH, RESTART = "Model", "Speech and speakers", "Continue and share the work"  # of options


def without_utterances(recordings: Path) -> int:
    """How many recordings of a run's second table were annotated and have no row in the first."""
    import polars as pl

    columns = {"status": pl.String, "rows": pl.Int32}  # as CSV does not tell
    if recordings.suffix.lower() == ".csv":
        table = pl.read_csv(recordings, columns=list(columns), schema_overrides=columns, glob=False)
    else:
        table = pl.read_parquet(recordings, columns=list(columns), glob=False)
    return table.filter((pl.col("status") == "annotated") & (pl.col("rows") == 0)).height


@command(
    RUN,
    "annotate run videos/ --out labels.parquet",
    "annotate run call.m4a -o call.csv --speakers 2 --language en",
    "annotate run videos/ -o labels.parquet --report labels.html -q",
)
def run(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT", help="Recordings, or folders to search for recordings."),
    ],
    out: Out,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Also write a page to read and correct in a browser."),
    ] = None,
    profile: Annotated[
        bool | None,
        typer.Option("--profile", metavar="", help="Show the time each stage took, and what limits the run."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="A checkpoint folder, hf:OWNER/NAME on a model hub, or the starter that is installed.",
            show_default="starter",
            rich_help_panel=MODEL,
        ),
    ] = None,
    modalities: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="What the labels are based on: text, audio, face, joined by commas.",
            show_default="text,audio,face",
            rich_help_panel=MODEL,
        ),
    ] = None,
    diarizer: Annotated[
        Diarizer | None,
        typer.Option(
            help="What finds who speaks when. auto: a .rttm file beside the recording, else the best "
            "installed.",
            show_default="auto",
            rich_help_panel=SPEECH,
        ),
    ] = None,
    transcriber: Annotated[
        Transcriber | None,
        typer.Option(
            help="Where the words come from. auto: subtitles if there are any, else recognition.",
            show_default="auto",
            rich_help_panel=SPEECH,
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            metavar="CODE",
            help="Language spoken, ISO 639-1, such as en. Without it, it is detected.",
            rich_help_panel=SPEECH,
        ),
    ] = None,
    speakers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of speakers, if you know it.", rich_help_panel=SPEECH),
    ] = None,
    min_speakers: Annotated[
        int | None, typer.Option(metavar="N", help="Fewest speakers.", rich_help_panel=SPEECH)
    ] = None,
    max_speakers: Annotated[
        int | None, typer.Option(metavar="N", help="Most speakers.", rich_help_panel=SPEECH)
    ] = None,
    link_speakers: Annotated[
        bool | None,
        typer.Option(
            "--link-speakers",
            metavar="",
            help="Give one person the same name in all recordings, by voice. This is biometric "
            "identification.",
            rich_help_panel=SPEECH,
        ),
    ] = None,
    dialogue_gap: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="A pause this long starts a new conversation.",
            show_default="60",
            rich_help_panel=SPEECH,
        ),
    ] = None,
    channels: Annotated[
        Channels | None,
        typer.Option(
            help="mix: mix the channels. speakers: each channel is one speaker.",
            show_default="mix, unless each of two channels holds one speaker",
            rich_help_panel=SPEECH,
        ),
    ] = None,
    audio_track: Annotated[
        str | None,
        typer.Option(
            metavar="TRACK",
            help="Which of several sound tracks: its number, language or title.",
            rich_help_panel=SPEECH,
        ),
    ] = None,
    subtitle_track: Annotated[
        str | None,
        typer.Option(
            metavar="TRACK",
            help="Which of several subtitle tracks: its number, language or title.",
            rich_help_panel=SPEECH,
        ),
    ] = None,
    pyannote_folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Your own copy of pyannote's diarization pipeline.", rich_help_panel=SPEECH
        ),
    ] = None,
    whisper_folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Your own Whisper model (CTranslate2 or safetensors).",
            rich_help_panel=SPEECH,
        ),
    ] = None,
    device: Device = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Recordings to work on at the same time.",
            show_default="by the processors, 4 at most",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Most threads of each worker.",
            show_default="its share of the processors",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Conversations the network labels at the same time.",
            show_default="32",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    offline: Annotated[
        bool | None,
        typer.Option("--offline", metavar="", help="Never use the network.", rich_help_panel=MACHINE),
    ] = None,
    work_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for finished parts and features. A run goes on from there.",
            show_default="beside the table",
            rich_help_panel=RESTART,
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Share finished parts with other machines: s3://BUCKET/PATH, gs://BUCKET/PATH or file:///PATH.",
            rich_help_panel=RESTART,
        ),
    ] = None,
    fresh: Annotated[
        bool | None,
        typer.Option("--fresh", metavar="", help="Annotate everything again.", rich_help_panel=RESTART),
    ] = None,
    retry_failed: Annotated[
        bool | None,
        typer.Option(
            "--retry-failed",
            metavar="",
            help="Try the recordings that failed again.",
            rich_help_panel=RESTART,
        ),
    ] = None,
    engine: Annotated[
        Engine | None,
        typer.Option(
            help="Where the workers are: on this machine, or on a Ray cluster.",
            show_default="local",
            rich_help_panel=RESTART,
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address of a running Ray cluster.",
            show_default="$RAY_ADDRESS, else one is started here",
            rich_help_panel=RESTART,
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="i/N",
            help="Work on share i of N only, counted from 0. See `annotate merge`.",
            rich_help_panel=RESTART,
        ),
    ] = None,
    config: Config = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_file: LogFile = None,
    log_json: LogJson = False,
) -> None:
    """Annotate recordings: find who says what, and label each utterance with an emotion.

    The result is one table for all recordings, with a row per utterance. A run that was stopped goes on
    where it was when you give the same command again.
    """
    set_up_logging(quiet, verbose, log_file, log_json)
    flags: dict[str, Any] = {
        "model": model,
        "diarizer": diarizer,
        "transcriber": transcriber,
        "pyannote_folder": pyannote_folder,
        "whisper_folder": whisper_folder,
        "speakers": speakers,
        "min_speakers": min_speakers,
        "max_speakers": max_speakers,
        "language": language,
        "audio_track": audio_track,
        "subtitle_track": subtitle_track,
        "channels": channels,
        "modalities": modalities,
        "dialogue_gap": dialogue_gap,
        "device": device,
        "batch_size": batch_size,
        "workers": workers,
        "threads": threads,
        "engine": engine,
        "ray_address": ray_address,
        "shard": shard,
        "work_dir": work_dir,
        "store": store,
        "fresh": fresh,
        "retry_failed": retry_failed,
        "offline": offline,
        "link_speakers": link_speakers,
        "report": report,
        "profile": profile,
    }
    settings = settings_of_run(config, flags)
    from annotator import pipeline

    result = pipeline.run(inputs, out, settings, progress=not quiet)
    if result.table is not None:
        files = result.table["file"].n_unique()
        say(f"{counted(len(result.table), 'utterance')} of {counted(files, 'recording')}: {out}")
        recordings = out.with_suffix(f".recordings{out.suffix}")
        if silent := without_utterances(recordings):
            say(f"No utterance was found in {counted(silent, 'recording')}: {recordings} says why")
        if result.failures:
            failures = out.with_suffix(".failures.csv")
            what = "of the inputs failed, or went on without their transcript"
            say(f"{len(result.failures)} {what}: {failures}", err=True)
        if settings.report is not None:
            from annotator.media import common_folder
            from annotator.report import write_report

            # A page that may be handed on says nothing of folders beside its own.
            base, beside = common_folder(inputs), settings.report.absolute().parent
            heard = write_report(out, settings.report, base if base.is_relative_to(beside) else None)
            say(f"{settings.report}")
            if not heard and files:
                again = shlex.join(
                    ["annotate", "report", str(out), "--out", str(settings.report), "--media-base", str(base)]
                )
                say(f"This page plays nothing, because the recordings do not lie below its folder: {again}")
    if result.profile is not None:
        say("\n".join(result.profile.lines()))
    if result.stopped_by is not None:
        if result.not_shared:
            say(f"annotate: {result.not_shared}", err=True)
        done = f"{result.annotated} of {result.total} recordings were annotated now"
        raise Stopped(result.stopped_by, f"Stopped; {done}. The same command goes on from here.")
    if result.not_shared:
        raise SetupError(result.not_shared)
    raise typer.Exit(result.exit_code)


@command(
    RUN,
    "annotate run videos/ -o s0.parquet --shard 0/2     # on one machine",
    "annotate run videos/ -o s1.parquet --shard 1/2     # on another",
    "annotate merge labels.parquet --from s0.work s1.work",
    "annotate merge labels.parquet --from s3://bucket/labels     # the --store of both",
)
def merge(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Table to write: .parquet or .csv.")],
    folders: Annotated[
        list[str],
        typer.Option(
            "--from", metavar="WORKDIR...", help="Work folders of the shards, or the store that they shared."
        ),
    ],
    more: Annotated[list[str] | None, typer.Argument(metavar="WORKDIR", hidden=True)] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_file: LogFile = None,
    log_json: LogJson = False,
) -> None:
    """Merge the shards of a run into one table."""
    # The option takes the first folder; those that follow it arrive as arguments.
    from annotator import pipeline

    set_up_logging(quiet, verbose, log_file, log_json)
    whole, failures = pipeline.merge_work_folders(out, [*folders, *(more or [])])
    files = whole["file"].n_unique()
    say(f"{counted(len(whole), 'utterance')} of {counted(files, 'recording')}: {out}")
    raise typer.Exit(3 if failures else 0)


@command(
    USE,
    "annotate report labels.parquet --out labels.html",
    "annotate report labels.parquet -o labels.html --media-base videos/",
)
def report(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="Table that `annotate run` wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.html", help="Page to write.")],
    media_base: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the recordings, so that the page can play them.",
            show_default="the page's folder",
        ),
    ] = None,
    review: Annotated[
        ReviewOrder | None,
        typer.Option(
            help="Order the utterances to correct. uncertain: first those over which the model wavers most. "
            "random: any, which is better to train on."
        ),
    ] = None,
) -> None:
    """Make a page to read, listen to and correct the labels in a browser."""
    from annotator.report import write_report

    set_up_logging()
    if not write_report(table, out, media_base, review):
        say("The page can't find the recordings to play: give their folder with --media-base.")
    say(f"{out}")


@command(
    USE,
    "annotate agree anna.csv ben.csv",
    "annotate agree labels.parquet corrections.csv -o differences.csv",
)
def agree(
    one: Annotated[Path, typer.Argument(metavar="A", help="Table, or corrections: .csv or .parquet.")],
    other: Annotated[Path, typer.Argument(metavar="B", help="Another one of the same recordings.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE.csv", help="Write all rows that differ, not just some."),
    ] = None,
) -> None:
    """Measure how far two labellings agree: kappa, alpha, confusion, and the rows that differ."""
    from annotator.agreement import compare, described, differences, write_differences

    set_up_logging()
    found = compare(one, other)
    for line in described(found):
        say(line)
    say("")
    count = len(found.differing)
    say(f"{counted(count, 'row')} {'differs' if count == 1 else 'differ'} in emotion, speaker or text")
    if out is not None:
        write_differences(found, out)
        say(f"{out}")
    else:
        for line in differences(found):
            say(line)


@command(
    USE,
    "annotate export labels.parquet --to srt --out subtitles/",
    "annotate export labels.parquet --to label-studio -o review/",
)
def export(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="Table that `annotate run` wrote.")],
    to: Annotated[ExportFormat, typer.Option("--to", help="Format to write.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write. It must be new or empty.")
    ],
) -> None:
    """Write a table in the format of another tool: subtitles, ELAN, Praat, Label Studio and others."""
    from annotator.export import export as write

    set_up_logging()
    files = write(table, to, out)
    say(f"{len(files)} {'file' if len(files) == 1 else 'files'} in {out}")


@command(
    USE,
    "annotate faces talk.mp4 --out faces/ --table labels.parquet",
)
def faces(
    recording: Annotated[Path, typer.Argument(metavar="RECORDING", help="A video.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write. It must be new or empty.")
    ],
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="Table of a run over the recording. Without it, the utterances are found again.",
        ),
    ] = None,
    config: Config = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_file: LogFile = None,
    log_json: LogJson = False,
) -> None:
    """Show which face was used for each utterance: video frames with boxes, and faces.csv."""
    set_up_logging(quiet, verbose, log_file, log_json)
    settings = settings_of_run(config, {})
    from annotator.pipeline.shown import show_faces

    count = show_faces(recording, out, settings, table)
    say(f"{count} {'frame' if count == 1 else 'frames'} and faces.csv in {out}")
