"""Commands around a training: make a corpus, measure a model, pass it on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from annotator.choices import Diarizer, KeptApart, Source, Split, Transcriber
from annotator.cli.base import (
    TRAIN,
    Config,
    CorpusIn,
    Device,
    LogFile,
    LogJson,
    Quiet,
    Verbose,
    command,
    say,
    set_up_logging,
    settings_of_run,
)

FEATURES, TABLES, RECORDINGS = (
    "Features",
    "Tables and annotated recordings",
    "Recordings",
)  # panels of options


@command(
    TRAIN,
    "annotate prepare table labels.csv --media videos/ --out corpus",
    "annotate prepare table labels.csv -o corpus --column label=Mood",
    "annotate prepare meld MELD/ --media MELD.Raw/ -o corpus",
)
def prepare(
    source: Annotated[
        Source,
        typer.Argument(
            help="Kind of source: a known data set, published features, a table of yours, or files of an "
            "annotation program."
        ),
    ],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder or file of the source.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="CORPUS", help="Corpus folder to write.")],
    media: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the recordings, for voice and face, and for words that the source lacks.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="Checkpoint whose encoders compute the features.",
            show_default="starter, with --media",
            rich_help_panel=FEATURES,
        ),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODALITY=NAME",
            help="Use another encoder, such as audio=compare2016. Its settings follow after commas. "
            "NAME none leaves the modality out. May be repeated.",
            rich_help_panel=FEATURES,
        ),
    ] = None,
    prosody: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Table of voice measurements for meld, if you do not have its clips.",
            rich_help_panel=FEATURES,
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MEANING=NAME",
            help="Name the column, tier or field for a meaning, such as label=Mood. An empty name means "
            "there is none, such as sentiment=. May be repeated.",
            rich_help_panel=TABLES,
        ),
    ] = None,
    split_by: Annotated[
        KeptApart | None,
        typer.Option(
            help="Make the splits so that no speaker, or no dialogue, is in two of them.",
            show_default="speaker if possible",
            rich_help_panel=TABLES,
        ),
    ] = None,
    shared_speakers: Annotated[
        bool,
        typer.Option(
            "--shared-speakers",
            metavar="",
            help="Accept speakers that are in several splits of the table.",
            rich_help_panel=TABLES,
        ),
    ] = False,
    skip_faulty: Annotated[
        bool,
        typer.Option(
            "--skip-faulty", metavar="", help="Leave faulty rows out, and list them.", rich_help_panel=TABLES
        ),
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Random seed of the splits.", show_default="0", rich_help_panel=TABLES
        ),
    ] = None,
    transcriber: Annotated[
        Transcriber | None,
        typer.Option(
            help="Where the words come from, for utterances without text.",
            show_default="auto",
            rich_help_panel=RECORDINGS,
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            metavar="CODE",
            help="Language spoken, ISO 639-1, such as en.",
            rich_help_panel=RECORDINGS,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Recordings to work on at the same time.",
            show_default="by the processors, 4 at most",
            rich_help_panel=RECORDINGS,
        ),
    ] = None,
    device: Device = None,
    config: Config = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_file: LogFile = None,
    log_json: LogJson = False,
) -> None:
    """Make a corpus for training, from a data set or from your own labelled utterances.

    A table has a row per utterance: recording, start, end, speaker, label, and more if you have it. Columns
    are recognised by name.
    """
    set_up_logging(quiet, verbose, log_file, log_json)
    given = {"transcriber": transcriber, "language": language, "workers": workers, "device": device}
    settings = settings_of_run(config, given)
    from tqdm import tqdm

    from annotator.device import resolve_device
    from annotator.records import UsageError
    from train.options import encoders_from
    from train.prepare import prepare as make
    from train.prepare import table_options, unused_file
    from train.prepare.describe import described

    options = table_options(source, column or [], split_by, shared_speakers, skip_faulty, seed)
    if prosody is not None:
        if source != "meld":
            raise UsageError(f"Only meld has --prosody; leave it out for {source}.")
        options["prosody"] = prosody
    if model is None and "model" in settings.model_fields_set:
        model = settings.model
    with tqdm(unit="utterance", disable=True if quiet else None) as bar:

        def on_progress(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        corpus = make(
            source,
            path,
            out,
            media=media,
            model=model,
            encoders=encoders_from(encoder or []),
            settings=settings,
            device=resolve_device(settings.device),
            on_progress=on_progress,
            **options,
        )
    for line in described(corpus):
        say(line)
    say(f"{out}")
    raise typer.Exit(3 if unused_file(out).exists() else 0)


@command(
    TRAIN,
    "annotate evaluate corpus --model my.ckpt --out evaluation",
    "annotate evaluate corpus --model my.ckpt --media videos/ -o evaluation",
)
def evaluate(
    corpus: CorpusIn,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for figures, tables and plots.")
    ],
    model: Annotated[
        str,
        typer.Option(metavar="CHECKPOINT", help="A checkpoint folder, starter or hf:OWNER/NAME."),
    ] = "starter",
    split: Annotated[Split, typer.Option(help="Split of the corpus to measure on.")] = "test",
    against: Annotated[
        str | None, typer.Option(metavar="CHECKPOINT", help="Another model to compare with.")
    ] = None,
    media: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the recordings: also measure a whole run, with the speakers and words it finds "
            "itself.",
        ),
    ] = None,
    diarizer: Annotated[
        Diarizer | None,
        typer.Option(help="Diarizer of that run.", show_default="auto", rich_help_panel=RECORDINGS),
    ] = None,
    transcriber: Annotated[
        Transcriber | None,
        typer.Option(help="Transcriber of that run.", show_default="auto", rich_help_panel=RECORDINGS),
    ] = None,
    device: Device = None,
    config: Config = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_file: LogFile = None,
    log_json: LogJson = False,
) -> None:
    """Measure a model: accuracy, F1, each class, confusion, calibration, subsets of modalities."""
    set_up_logging(quiet, verbose, log_file, log_json)
    given = {"diarizer": diarizer, "transcriber": transcriber, "device": device}
    settings = settings_of_run(config, given)
    from annotator.device import resolve_device
    from train.evaluate import evaluate as measure
    from train.evaluate.report import headline

    metrics = measure(
        corpus,
        model,
        split,
        out,
        against=against,
        device=resolve_device(settings.device),
        media=media,
        run_settings=settings,
    )
    for line in headline(metrics):
        say(line)
    say(f"{out}")


@command(
    TRAIN,
    "annotate share my.ckpt --to hf:OWNER/NAME --private",
    "annotate share my.ckpt --to shared/",
    "annotate share labels.parquet --to dataset/ --licence cc-by-4.0",
)
def share(
    what: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT|TABLE", help="Checkpoint folder, or a table of `annotate run`."),
    ],
    to: Annotated[
        str,
        typer.Option("--to", metavar="REPOSITORY", help="hf:OWNER/NAME on a hub, or a folder."),
    ],
    licence: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Licence of a table's rows, such as cc-by-4.0 or other. A checkpoint's card has its own.",
        ),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", metavar="", help="Make a new repository private.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_file: LogFile = None,
    log_json: LogJson = False,
) -> None:
    """Copy a model with its card, or a table as a data set, to a repository on a hub or to a folder."""
    set_up_logging(quiet, verbose, log_file, log_json)
    from annotator.records import UsageError

    if what.is_dir():
        if licence is not None:
            raise UsageError("A checkpoint's licence stands in its CARD.md: leave --licence out.")
        from train.share import share as share_checkpoint

        say(share_checkpoint(what, to, private=private))
    else:
        from annotator.dataset import share_table

        say(share_table(what, to, licence, private=private))
