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
    link_speakers: Annotated[
        bool | None,
        typer.Option("--link-speakers", help="Link people across recordings by voice: biometric."),
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
    if model is not None and model.startswith("hf:"):
        from train.share import checkpoint_from

        model = str(checkpoint_from(model))
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
        "link_speakers": link_speakers,
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
def export(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A table that `annotate run` wrote.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="srt, vtt, rttm, textgrid, eaf, label-studio, audformat, lhotse or meld-csv.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write, new or empty.")],
) -> None:
    """Write a table in the format of another tool: subtitles, tiers for annotation, a corpus."""
    from annotator.export import export as write

    files = write(table, to, out)
    typer.echo(f"{len(files)} {'file' if len(files) == 1 else 'files'} in {out}")


@app.command()
def prepare(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="meld, emorynlp, iemocap, features or table.")
    ],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The source's folder or file.")],
    out: Annotated[Path, typer.Option("--out", metavar="CORPUS", help="The corpus folder to write.")],
    media: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The recordings of meld, iemocap or a table: voice, face and text."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Checkpoint whose encoders make the features. [with --media: starter]"),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODALITY=NAME",
            help="Another encoder, such as audio=compare2016; with its own settings after commas; "
            "none leaves the modality out.",
        ),
    ] = None,
    prosody: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Voice measurements of meld's clips, where there are no clips."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="MEANING=NAME", help="Which column of a table means what, such as label=Mood."),
    ] = None,
    split_by: Annotated[
        str | None, typer.Option(help="What made splits keep apart: speaker or dialogue.")
    ] = None,
    shared_speakers: Annotated[
        bool, typer.Option("--shared-speakers", help="A table's own splits may share speakers.")
    ] = False,
    skip_faulty: Annotated[
        bool, typer.Option("--skip-faulty", help="Leave out faulty rows of a table, and list them.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Of made splits. [default: 0]")] = None,
    transcriber: Annotated[
        str | None, typer.Option(help="For utterances without text: auto, subtitles, whisper or none.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Language spoken, ISO 639-1, such as en.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Recordings side by side. [default: one a core, 4 at most]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    quiet: Quiet = False,
) -> None:
    """Make a corpus for training: from a known data set, or from any table of labelled utterances."""
    from tqdm import tqdm

    from annotator.pipeline import resolve_device
    from annotator.records import UsageError
    from annotator.settings import load_settings
    from annotator.weights import checkpoint_folder
    from train.options import encoders_from
    from train.prepare import prepare as make
    from train.prepare import table_options, unused_file
    from train.prepare.describe import described

    set_up_logging(quiet, verbose=False)
    options = table_options(source, column or [], split_by, shared_speakers, skip_faulty, seed)
    if prosody is not None:
        if source != "meld":
            raise UsageError(f"Only meld has --prosody; leave it out for {source}.")
        options["prosody"] = prosody
    given = {"transcriber": transcriber, "language": language, "workers": workers, "device": device}
    with tqdm(unit="utterance", disable=True if quiet else None) as bar:

        def on_progress(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        corpus = make(
            source,
            path,
            out,
            media=media,
            model=checkpoint_folder(model) if model is not None else None,
            encoders=encoders_from(encoder or []),
            settings=load_settings(None, given),
            device=resolve_device(device),
            on_progress=on_progress,
            **options,
        )
    for line in described(corpus):
        typer.echo(line)
    typer.echo(f"{out}")
    raise typer.Exit(3 if unused_file(out).exists() else 0)


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
def finetune(
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="A folder that `annotate prepare` wrote.")],
    out: Annotated[Path, typer.Option("--out", metavar="CHECKPOINT", help="The checkpoint folder to write.")],
    start: Annotated[
        str,
        typer.Option("--from", metavar="CHECKPOINT", help="Checkpoint folder, 'starter' or hf:OWNER/NAME."),
    ] = "starter",
    sentiment: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=SENTIMENT", help="positive, neutral, negative, or none for either."),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(help="Text encoder: frozen, adapter, or auto: adapter from 1000 utterances on."),
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Of a new text adapter.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the corpus at most.")] = None,
    head_epochs: Annotated[int | None, typer.Option(help="Passes that train a new head alone.")] = None,
    network_epochs: Annotated[
        int | None, typer.Option(help="Passes then before the text encoder is trained too.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Dialogues at once.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches of which one step is made.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of the inherited network.")] = None,
    head_lr: Annotated[float | None, typer.Option(help="Of a new head.")] = None,
    text_lr: Annotated[float | None, typer.Option(help="Of the text adapter.")] = None,
    anchor: Annotated[float | None, typer.Option(help="Pull of the weights towards the start.")] = None,
    average: Annotated[
        float | None, typer.Option(help="Decay of the running average of the weights. 0: none.")
    ] = None,
    balance: Annotated[
        float | None, typer.Option(help="0: labels as frequent as they are; 1: all labels alike.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Passes without a better one before it stops. 0: never stops.")
    ] = None,
    choose: Annotated[
        str | None, typer.Option(help="Best pass by weighted_f1, macro_f1 or accuracy on validation.")
    ] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="bfloat16 in the network as well, on devices that have it.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    renew: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODALITY",
            help="audio or face: the corpus has another encoder than the start; learn its part anew.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the model. [default: that of the folder]")] = None,
    licence: Annotated[str, typer.Option(help="Of the result, for its card.")] = "other",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Another field of the network, such as dropout."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    quiet: Quiet = False,
) -> None:
    """Fine-tune a checkpoint on a corpus, also one with other labels; goes on after a stop."""
    from annotator.pipeline import resolve_device
    from train.finetune import finetune as tune
    from train.finetune import settings_from
    from train.options import fields_from, named_values
    from train.share import checkpoint_from

    set_up_logging(quiet, verbose=False)
    settings = settings_from(
        text=text,
        rank=rank,
        epochs=epochs,
        head_epochs=head_epochs,
        network_epochs=network_epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        lr=lr,
        head_lr=head_lr,
        text_lr=text_lr,
        anchor=anchor,
        average=average,
        balance=balance,
        patience=patience,
        choose=choose,
        autocast=mixed or None,
        seed=seed,
        device=resolve_device(device),
    )
    tuned = tune(
        corpus,
        checkpoint_from(start),
        out,
        settings,
        sentiments=named_values(sentiment or [], "--sentiment"),
        config=fields_from(set_ or []),
        renew=renew or (),
        name=name,
        licence=licence,
        progress=not quiet,
    )
    if tuned.figures is not None:
        for line in tuned.summary():
            typer.echo(line)
        typer.echo(f"{out}")


@app.command()
def share(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint folder.")],
    to: Annotated[
        str, typer.Option("--to", metavar="REPOSITORY", help="hf:OWNER/NAME on a model hub, or a folder.")
    ],
    private: Annotated[bool, typer.Option("--private", help="A new repository is not public.")] = False,
) -> None:
    """Put a checkpoint into a model hub's repository, with its card."""
    from train import share as sharing

    set_up_logging(quiet=False, verbose=False)
    typer.echo(sharing.share(checkpoint, to, private=private))


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
    media: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also run the recordings through the tool: its true figure."),
    ] = None,
    diarizer: Annotated[str | None, typer.Option(help="Of that run, as in `annotate run`.")] = None,
    transcriber: Annotated[str | None, typer.Option(help="Of that run, as in `annotate run`.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Measure a checkpoint: accuracy, F1, per class, confusion, calibration, subsets of modalities."""
    from annotator.pipeline import resolve_device
    from annotator.settings import load_settings
    from train.evaluate import evaluate as measure
    from train.share import checkpoint_from

    set_up_logging(quiet=False, verbose=False)
    folder = checkpoint_from(model)
    given = {"model": str(folder), "diarizer": diarizer, "transcriber": transcriber, "device": device}
    metrics = measure(
        corpus,
        folder,
        split,
        out,
        against=against,
        device=resolve_device(device),
        media=media,
        run_settings=load_settings(None, given),
    )
    for name in ("accuracy", "weighted_f1", "macro_f1", "ece"):
        typer.echo(f"{name:<12} {metrics[name]:.4f}")
    if "as_run" in metrics:
        typer.echo(f"as a run labels the recordings: weighted_f1 {metrics['as_run']['weighted_f1']:.4f}")
    typer.echo(f"{out}")


@app.command()
def download(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PART...]", help="yunet, whisper or pyannote. [default: all that can be had]"
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="For which device: cpu takes a smaller one than cuda.")
    ] = "auto",
) -> None:
    """Fetch pretrained parts once, so that later runs work with --offline."""
    from annotator import download as fetching

    set_up_logging(quiet=False, verbose=False)
    for line in fetching.download(parts or [], device):
        typer.echo(line)


@app.command()
def doctor() -> None:
    """Show what is installed, what each stage would use, and what is missing and how to get it."""
    from annotator import doctor as examination

    typer.echo(examination.report())
