"""Commands for corpora and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from annotator.cli.base import Quiet, app, say, set_up_logging

Log = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND=PLACE",
        help="Also tell the figures of each epoch to tensorboard=FOLDER, wandb=PROJECT or mlflow=EXPERIMENT.",
    ),
]


@app.command()
def prepare(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="meld, mmeld, emorynlp, iemocap, features, table, label-studio, eaf, textgrid or chat.",
        ),
    ],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The source's folder or file.")],
    out: Annotated[Path, typer.Option("--out", metavar="CORPUS", help="The corpus folder to write.")],
    media: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The recordings of the source: voice, face and text."),
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
        typer.Option(
            metavar="MEANING=NAME",
            help="Which column, tier or field means what, such as label=Mood; sentiment= for none.",
        ),
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

    from annotator.device import resolve_device
    from annotator.records import UsageError
    from annotator.settings import load_settings
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
            model=model,
            encoders=encoders_from(encoder or []),
            settings=load_settings(None, given),
            device=resolve_device(device),
            on_progress=on_progress,
            **options,
        )
    for line in described(corpus):
        say(line)
    say(f"{out}")
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
    log: Log = None,
    quiet: Quiet = False,
) -> None:
    """Train a network from scratch; the same command goes on after a stop."""
    from annotator.device import resolve_device
    from annotator.records import UsageError
    from train.logs import logged
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
        on_epoch=logged(log or [], out),
    )
    best = trained.best
    say(
        f"epoch {best.number} was best on validation: weighted F1 {100 * best.weighted_f1:.1f} %, "
        f"accuracy {100 * best.accuracy:.1f} %"
    )
    say(f"{out}")


@app.command()
def ablation(
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="A folder that `annotate prepare` wrote.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="For runs, tables and curves.")],
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each experiment.")] = 5,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Experiments or tables, with commas; what they compare with comes too."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of every training, instead of the preset's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="One seed, two epochs, few experiments.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train variants of the network, several seeds each, and compare them; goes on after a stop."""
    from annotator.device import resolve_device
    from train.ablation import ablate

    set_up_logging(quiet, verbose=False)
    ablate(
        corpus,
        out,
        seeds=seeds,
        only=[name.strip() for name in only.split(",")] if only else None,
        quick=quick,
        epochs=epochs,
        device=resolve_device(device),
        progress=not quiet,
    )
    say(f"{out / 'ablation.md'}")


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
    folds: Annotated[
        int | None,
        typer.Option(help="Also fine-tune once on each part of this many, and test on all dialogues so."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the model. [default: that of the folder]")] = None,
    licence: Annotated[str, typer.Option(help="Of the result, for its card.")] = "other",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Another field of the network, such as dropout."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    log: Log = None,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a checkpoint on a corpus, also one with other labels; goes on after a stop."""
    from annotator.device import resolve_device
    from train.finetune import finetune as tune
    from train.finetune import settings_from
    from train.finetune.folds import check_folds, cross_validate
    from train.logs import logged
    from train.options import fields_from, named_values

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
    given: dict[str, Any] = {
        "sentiments": named_values(sentiment or [], "--sentiment"),
        "config": fields_from(set_ or []),
        "renew": renew or (),
        "progress": not quiet,
    }
    if folds is not None:
        check_folds(corpus, folds, settings.seed)  # before the hours of the training itself
    on_epoch = logged(log or [], out)
    tuned = tune(corpus, start, out, settings, name=name, licence=licence, on_epoch=on_epoch, **given)
    if tuned.figures is not None:
        for line in tuned.summary():
            say(line)
        if folds is not None:
            say(cross_validate(corpus, start, out, settings, folds, **given).said())
        say(f"{out}")


@app.command()
def share(
    what: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT|TABLE", help="A checkpoint folder, or a table of `annotate run`."),
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="REPOSITORY", help="hf:OWNER/NAME on a hub, or a folder.")
    ],
    licence: Annotated[
        str | None,
        typer.Option(help="Of a table's rows, such as cc-by-4.0 or other. A checkpoint's card has its own."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A new repository is not public.")] = False,
) -> None:
    """Put a checkpoint, or a table as a data set, into a hub's repository or a folder, with its card."""
    from annotator.records import UsageError

    set_up_logging(quiet=False, verbose=False)
    if what.is_dir():
        if licence is not None:
            raise UsageError("A checkpoint's licence stands in its CARD.md: leave --licence out.")
        from train.share import share as share_checkpoint

        say(share_checkpoint(what, to, private=private))
    else:
        from annotator.dataset import share_table

        say(share_table(what, to, licence, private=private))


@app.command()
def evaluate(
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="A folder that `annotate prepare` wrote.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for figures, tables and pictures.")
    ],
    model: Annotated[str, typer.Option(help="Checkpoint folder, 'starter' or hf:OWNER/NAME.")] = "starter",
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    against: Annotated[
        str | None, typer.Option(metavar="CHECKPOINT", help="Compare with another one.")
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
    from annotator.device import resolve_device
    from annotator.settings import load_settings
    from train.evaluate import evaluate as measure
    from train.evaluate.report import headline

    set_up_logging(quiet=False, verbose=False)
    given = {"diarizer": diarizer, "transcriber": transcriber, "device": device}
    metrics = measure(
        corpus,
        model,
        split,
        out,
        against=against,
        device=resolve_device(device),
        media=media,
        run_settings=load_settings(None, given),
    )
    for line in headline(metrics):
        say(line)
    say(f"{out}")
