"""The commands. No logic here; heavy imports are inside the bodies, so that --help answers at once."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from annotator import check_own_model
from annotator.records import AnnotateError

app = typer.Typer(
    name="annotate",
    help="Recordings of conversations to emotion-labelled transcripts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text: square brackets in the help are ours
)

Out = Annotated[Path, typer.Option("--out", help="The table to write: .parquet or .csv.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Only warnings, no progress.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Every detail, with tracebacks of single recordings.")
]


def main() -> None:
    """Entry point: runs a command and turns every known fault into a sentence and an exit code."""
    # Nothing here may phone home, and no library may print bars of its own among ours.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "0")
    try:
        check_own_model()
        app()
    except AnnotateError as error:
        typer.echo(f"annotate: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("annotate: stopped; the same command goes on from what is finished.", err=True)
        sys.exit(130)


def set_up_logging(quiet: bool, verbose: bool) -> None:
    """Log to standard error."""
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("annotator")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        from annotator import __version__

        typer.echo(f"annotate {__version__}")
        raise typer.Exit


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
    speakers: Annotated[int | None, typer.Option(help="Number of speakers, when known.")] = None,
    min_speakers: Annotated[int | None, typer.Option(help="At least this many speakers.")] = None,
    max_speakers: Annotated[int | None, typer.Option(help="At most this many speakers.")] = None,
    language: Annotated[str | None, typer.Option(help="Language spoken, ISO 639-1, such as en.")] = None,
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
        int | None, typer.Option(help="Recordings side by side. [default: one a core, 4 at most]")
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
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write a page to look at.")
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
        "speakers": speakers,
        "min_speakers": min_speakers,
        "max_speakers": max_speakers,
        "language": language,
        "modalities": modalities,
        "dialogue_gap": dialogue_gap,
        "device": device,
        "batch_size": batch_size,
        "workers": workers,
        "shard": shard,
        "work_dir": work_dir,
        "fresh": fresh,
        "retry_failed": retry_failed,
        "offline": offline,
        "report": report,
    }
    settings = load_settings(config, flags)
    from annotator import pipeline

    result = pipeline.run(inputs, out, settings, progress=not quiet)
    if result.table is None:
        typer.echo("Stopped. The same command goes on from here.", err=True)
    else:
        files = result.table["file"].n_unique()
        typer.echo(f"{len(result.table)} utterances of {files} recordings: {out}")
        if result.failures:
            failures = out.with_suffix(".failures.csv")
            typer.echo(f"{len(result.failures)} of the inputs failed: {failures}", err=True)
        if settings.report is not None:
            from annotator.report import write_report

            write_report(out, settings.report)
            typer.echo(f"{settings.report}")
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
    typer.echo(f"{len(whole)} utterances of {whole['file'].n_unique()} recordings: {out}")
    raise typer.Exit(3 if failures else 0)


@app.command()
def report(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A table that `annotate run` wrote.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.html", help="The page to write.")],
) -> None:
    """Make a page to look at: timelines, distributions, transcript."""
    from annotator.report import write_report

    write_report(table, out)
    typer.echo(f"{out}")


@app.command()
def prepare(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="meld, emorynlp, iemocap, features or table.")
    ],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The source's folder or file.")],
    out: Annotated[Path, typer.Option("--out", metavar="CORPUS", help="The corpus folder to write.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    quiet: Quiet = False,
) -> None:
    """Make a corpus for training."""
    from tqdm import tqdm

    from annotator.pipeline import resolve_device
    from train.prepare import prepare as make

    set_up_logging(quiet, verbose=False)
    with tqdm(unit="utterance", disable=True if quiet else None) as bar:

        def on_progress(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        corpus = make(source, path, out, device=resolve_device(device), on_progress=on_progress)
    for split, counts in corpus.header.counts.items():
        typer.echo(f"{split}: {counts.utterances} utterances in {counts.dialogues} dialogues")
    typer.echo(f"{out}")


@app.command()
def train(
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="A folder that `annotate prepare` wrote.")],
    out: Annotated[Path, typer.Option("--out", metavar="CHECKPOINT", help="The checkpoint folder to write.")],
    preset: Annotated[str, typer.Option(help="default, or paper for exactly arXiv 2501.15063.")] = "default",
    epochs: Annotated[int | None, typer.Option(help="Passes over the corpus at most.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Dialogues a batch.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    modalities: Annotated[
        str | None, typer.Option(help="Which of the corpus' to use. [default: all]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    tensorboard: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Also log there.")] = None,
    quiet: Quiet = False,
) -> None:
    """Train a network from scratch; the same command goes on after a stop."""
    from annotator.pipeline import resolve_device
    from annotator.records import UsageError
    from train.loop import train_corpus
    from train.settings import TrainSettings

    set_up_logging(quiet, verbose=False)
    if preset not in ("default", "paper"):
        raise UsageError(f"Unknown preset {preset!r}: choose default or paper.")
    given = {
        "epochs": epochs,
        "lr": lr,
        "batch_size": batch_size,
        "seed": seed,
        "device": resolve_device(device),
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    settings = TrainSettings.paper(**changes) if preset == "paper" else TrainSettings(**changes)
    trained = train_corpus(
        corpus,
        out,
        preset="paper" if preset == "paper" else "default",
        settings=settings,
        modalities=modalities.split(",") if modalities else None,
        progress=not quiet,
        tensorboard=tensorboard,
    )
    best = trained.best
    typer.echo(
        f"epoch {best.number}: weighted F1 {best.weighted_f1:.4f}, accuracy {best.accuracy:.4f} on validation"
    )
    typer.echo(f"{out}")


@app.command()
def evaluate(
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="A folder that `annotate prepare` wrote.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for figures, tables and pictures.")
    ],
    model: Annotated[str, typer.Option(help="Checkpoint folder, or 'starter'.")] = "starter",
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    against: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="Compare with another one.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Measure a checkpoint: accuracy, F1, per class, confusion, calibration, subsets of modalities."""
    from annotator.pipeline import resolve_device
    from annotator.weights import checkpoint_folder
    from train.evaluate import evaluate as measure

    set_up_logging(quiet=False, verbose=False)
    metrics = measure(
        corpus, checkpoint_folder(model), split, out, against=against, device=resolve_device(device)
    )
    for name in ("accuracy", "weighted_f1", "macro_f1", "ece"):
        typer.echo(f"{name:<12} {metrics[name]:.4f}")
    typer.echo(f"{out}")


@app.command()
def download(
    parts: Annotated[
        list[str] | None, typer.Argument(metavar="[PART...]", help="whisper. [default: all]")
    ] = None,
    device: Annotated[
        str, typer.Option(help="For which device: cpu takes a smaller one than cuda.")
    ] = "auto",
) -> None:
    """Fetch pretrained parts once, so that later runs work with --offline."""
    from annotator import download as fetching
    from annotator.pipeline import resolve_device

    set_up_logging(quiet=False, verbose=False)
    for line in fetching.download(parts or list(fetching.PARTS), resolve_device(device)):
        typer.echo(line)


@app.command()
def doctor() -> None:
    """Show what is installed, what each stage would use, and what is missing and how to get it."""
    from annotator import doctor as examination

    typer.echo(examination.report())
