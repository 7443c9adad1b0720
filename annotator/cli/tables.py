"""Commands that make the table and what is read from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from annotator.cli.base import Out, Quiet, Verbose, app, say, set_up_logging


@app.command()
def run(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT...", help="Recordings, or folders of them (searched through)."),
    ],
    out: Out,
    model: Annotated[str | None, typer.Option(help="Checkpoint folder, or 'starter'.")] = None,
    diarizer: Annotated[str | None, typer.Option(help="auto, pyannote or embedded.")] = None,
    transcriber: Annotated[str | None, typer.Option(help="auto, subtitles, whisper or none.")] = None,
    pyannote_folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="pyannote's pipeline in a folder of your own.")
    ] = None,
    whisper_folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A Whisper (safetensors) in a folder of your own.")
    ] = None,
    speakers: Annotated[int | None, typer.Option(help="Number of speakers, when known.")] = None,
    min_speakers: Annotated[int | None, typer.Option(help="At least this many speakers.")] = None,
    max_speakers: Annotated[int | None, typer.Option(help="At most this many speakers.")] = None,
    language: Annotated[str | None, typer.Option(help="Language spoken, ISO 639-1, such as en.")] = None,
    audio_track: Annotated[
        str | None,
        typer.Option(metavar="TRACK", help="Of several sound tracks: its number, language or title."),
    ] = None,
    subtitle_track: Annotated[
        str | None,
        typer.Option(metavar="TRACK", help="Of several subtitle tracks: its number, language or title."),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(
            help="mix, or speakers: each channel is one. [default: mix, unless two channels hold one each]"
        ),
    ] = None,
    modalities: Annotated[
        str | None, typer.Option(help="Which of text,audio,face to use. [default: all three]")
    ] = None,
    dialogue_gap: Annotated[
        float | None,
        typer.Option(help="Seconds without speech after which a new conversation starts. [default: 60]"),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps. [default: auto]")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Conversations a batch. [default: 32]")] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Recordings side by side. [default: what the processors allow, 4 at most]"),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads of each worker, at most. [default: its share of the processors]"),
    ] = None,
    shard: Annotated[str | None, typer.Option(metavar="i/N", help="Do only the i-th of N shares.")] = None,
    work_dir: Annotated[
        Path | None, typer.Option(help="Finished parts and cached features. [default: beside the table]")
    ] = None,
    fresh: Annotated[bool | None, typer.Option("--fresh", help="Ignore earlier parts.")] = None,
    retry_failed: Annotated[
        bool | None, typer.Option("--retry-failed", help="Try recordings again that failed earlier.")
    ] = None,
    offline: Annotated[
        bool | None, typer.Option("--offline", help="Use only what is on this machine.")
    ] = None,
    link_speakers: Annotated[
        bool | None,
        typer.Option("--link-speakers", help="Link people across recordings by voice: biometric."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write a page to look at.")
    ] = None,
    profile: Annotated[
        bool | None, typer.Option("--profile", help="Tell where the time went, and which stage limits.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Settings; flags go before.")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Annotate recordings: one labelled transcript table for all of them."""
    from annotator.settings import load_settings

    set_up_logging(quiet, verbose)
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
        "shard": shard,
        "work_dir": work_dir,
        "fresh": fresh,
        "retry_failed": retry_failed,
        "offline": offline,
        "link_speakers": link_speakers,
        "report": report,
        "profile": profile,
    }
    settings = load_settings(config, flags)
    if settings.offline:
        from annotator.offline import enforce

        enforce()  # before the hub's libraries are imported
    from annotator import pipeline

    result = pipeline.run(inputs, out, settings, progress=not quiet)
    if result.table is None:
        say("Stopped. The same command goes on from here.", err=True)
    else:
        files = result.table["file"].n_unique()
        say(f"{len(result.table)} utterances of {files} recordings: {out}")
        if result.failures:
            failures = out.with_suffix(".failures.csv")
            what = "of the inputs failed, or went on without their transcript"
            say(f"{len(result.failures)} {what}: {failures}", err=True)
        if settings.report is not None:
            from annotator.media import common_folder
            from annotator.report import write_report

            # A page that may be handed on says nothing of folders beside its own.
            base, beside = common_folder(inputs), settings.report.absolute().parent
            write_report(out, settings.report, base if base.is_relative_to(beside) else None)
            say(f"{settings.report}")
    if result.profile is not None:
        say("\n".join(result.profile.lines()))
    raise typer.Exit(result.exit_code)


@app.command()
def merge(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The table to write: .parquet or .csv.")],
    folders: Annotated[
        list[Path], typer.Option("--from", metavar="WORKDIR...", help="Work folders of shards.")
    ],
    more: Annotated[list[Path] | None, typer.Argument(hidden=True)] = None,
) -> None:
    """Merge the parts of many shards into one table: annotate merge OUT --from WORKDIR..."""
    # The option takes the first folder; those that follow it arrive as arguments.
    from annotator import pipeline

    set_up_logging(quiet=False, verbose=False)
    whole, failures = pipeline.merge_work_folders(out, [*folders, *(more or [])])
    say(f"{len(whole)} utterances of {whole['file'].n_unique()} recordings: {out}")
    raise typer.Exit(3 if failures else 0)


@app.command()
def report(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A table that `annotate run` wrote.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.html", help="The page to write.")],
    media_base: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The folder of the recordings, to play them. [default: that of the page]"
        ),
    ] = None,
    review: Annotated[
        str | None,
        typer.Option(metavar="ORDER", help="uncertain: first those over which the model wavers most."),
    ] = None,
) -> None:
    """Make a page to look at, listen to and correct in."""
    from annotator.report import write_report

    if not write_report(table, out, media_base, review):
        say("The page plays none of the recordings: give --media-base the folder that they lie in.")
    say(f"{out}")


@app.command()
def agree(
    one: Annotated[Path, typer.Argument(metavar="A", help="A table, or corrections: .csv or .parquet.")],
    other: Annotated[Path, typer.Argument(metavar="B", help="Another of the same recordings.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.csv", help="Write the rows that differ. [default: show some]"),
    ] = None,
) -> None:
    """How far two labellings agree: kappa, alpha, confusion, and the rows they differ in."""
    from annotator.agreement import compare, described, differences, write_differences

    found = compare(one, other)
    for line in described(found):
        say(line)
    say("")
    say(f"{len(found.differing)} rows differ in emotion, speaker or text")
    if out is not None:
        write_differences(found, out)
        say(f"{out}")
    else:
        for line in differences(found):
            say(line)


@app.command()
def export(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A table that `annotate run` wrote.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="srt, vtt, rttm, textgrid, eaf, chat, label-studio, audformat, lhotse or meld-csv.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write, new or empty.")],
) -> None:
    """Write a table in the format of another tool: subtitles, tiers for annotation, a corpus."""
    from annotator.export import export as write

    files = write(table, to, out)
    say(f"{len(files)} {'file' if len(files) == 1 else 'files'} in {out}")


@app.command()
def faces(
    recording: Annotated[Path, typer.Argument(metavar="RECORDING", help="One recording with pictures.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write, new or empty.")],
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="A table of a run over the recording, whose utterances are taken. [default: find them anew]",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Settings of the run, in a file.")
    ] = None,
) -> None:
    """Show which face each utterance got: frames with boxes, the speaker's in green, and faces.csv."""
    from annotator.pipeline.shown import show_faces
    from annotator.settings import load_settings

    set_up_logging(quiet=False, verbose=False)
    count = show_faces(recording, out, load_settings(config, {}), table)
    say(f"{count} {'frame' if count == 1 else 'frames'} and faces.csv in {out}")
