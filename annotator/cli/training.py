"""Commands that train a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from annotator.choices import Measure, Preset, TextTraining
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
)

SCHEDULE, RATES, LABELS = "Length of the training", "Learning", "Labels and evaluation"  # panels of options

CheckpointOut = Annotated[
    Path, typer.Option("--out", "-o", metavar="CHECKPOINT", help="Checkpoint folder to write.")
]
Log = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND=PLACE",
        help="Also log the figures of each epoch: tensorboard=FOLDER, wandb=PROJECT or mlflow=EXPERIMENT. "
        "May be repeated.",
    ),
]


@command(
    TRAIN,
    "annotate finetune corpus --from starter --out my.ckpt",
    "annotate finetune corpus -o my.ckpt --sentiment weary=negative --folds 5",
)
def finetune(
    corpus: CorpusIn,
    out: CheckpointOut,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="CHECKPOINT",
            help="Model to start from: a checkpoint folder, starter or hf:OWNER/NAME.",
        ),
    ] = "starter",
    renew: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODALITY",
            help="audio or face: learn this part again, because the corpus has another encoder than the "
            "starting model. May be repeated.",
        ),
    ] = None,
    sentiment: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=SENTIMENT",
            help="Sentiment of a new label: positive, neutral, negative, or none if it can be any. May be "
            "repeated.",
            rich_help_panel=LABELS,
        ),
    ] = None,
    balance: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="0 keeps labels as frequent as they are; 1 counts all labels alike.",
            show_default="0",
            rich_help_panel=LABELS,
        ),
    ] = None,
    choose: Annotated[
        Measure | None,
        typer.Option(
            help="Score on validation that decides which epoch is kept.",
            show_default="weighted_f1",
            rich_help_panel=LABELS,
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Also cross-validate: fine-tune N more times and test on all dialogues.",
            rich_help_panel=LABELS,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the model.", show_default="that of the folder", rich_help_panel=LABELS),
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Licence of the model, for its card.", rich_help_panel=LABELS)
    ] = "other",
    epochs: Annotated[
        int | None,
        typer.Option(metavar="N", help="Most epochs.", show_default="20", rich_help_panel=SCHEDULE),
    ] = None,
    head_epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Epochs that train a new head only.",
            show_default="2",
            rich_help_panel=SCHEDULE,
        ),
    ] = None,
    network_epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Epochs after that, before the text encoder is trained too.",
            show_default="1",
            rich_help_panel=SCHEDULE,
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Stop after this many epochs without improvement. 0: never.",
            show_default="5",
            rich_help_panel=SCHEDULE,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(metavar="N", help="Dialogues in a batch.", show_default="16", rich_help_panel=RATES),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Batches whose gradients are added up for one step.",
            show_default="1",
            rich_help_panel=RATES,
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="Learning rate of the inherited network.",
            show_default="0.0003",
            rich_help_panel=RATES,
        ),
    ] = None,
    head_lr: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="Learning rate of a new head.",
            show_default="0.002",
            rich_help_panel=RATES,
        ),
    ] = None,
    text_lr: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="Learning rate of the text adapter.",
            show_default="0.0002",
            rich_help_panel=RATES,
        ),
    ] = None,
    text: Annotated[
        TextTraining | None,
        typer.Option(
            help="Keep the text encoder frozen, or train a low-rank adapter on it. auto: an adapter from "
            "1000 utterances on.",
            show_default="auto",
            rich_help_panel=RATES,
        ),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Rank of a new text adapter.", show_default="16", rich_help_panel=RATES
        ),
    ] = None,
    anchor: Annotated[
        float | None,
        typer.Option(
            metavar="WEIGHT",
            help="Pull of the weights towards the starting model. The fewer labels you have, the closer it "
            "stays.",
            show_default="1",
            rich_help_panel=RATES,
        ),
    ] = None,
    average: Annotated[
        float | None,
        typer.Option(
            metavar="DECAY",
            help="Decay of the running average of the weights. 0: no average.",
            show_default="0.99",
            rich_help_panel=RATES,
        ),
    ] = None,
    mixed: Annotated[
        bool,
        typer.Option(
            "--mixed",
            metavar="",
            help="Use bfloat16 in the network, if the device has it.",
            rich_help_panel=RATES,
        ),
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Change a field of the network, such as dropout=0.5. May be repeated.",
            rich_help_panel=RATES,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Random seed.", show_default="0", rich_help_panel=RATES),
    ] = None,
    log: Log = None,
    device: Device = None,
    config: Config = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_file: LogFile = None,
    log_json: LogJson = False,
) -> None:
    """Fine-tune a model on your corpus, which may have other labels.

    It prints what it inherits and what it changes. The best epoch on validation is kept: the starting model
    itself, if nothing is clearly better. A training that was stopped goes on when you give the same command
    again.
    """
    set_up_logging(quiet, verbose, log_file, log_json)
    from annotator.device import resolve_device
    from train.finetune import finetune as tune
    from train.finetune import settings_from
    from train.finetune.folds import check_folds, cross_validate
    from train.logs import logged
    from train.options import fields_from, named_values

    settings = settings_from(
        config,
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
        device=resolve_device(device or "auto"),
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


@command(
    TRAIN,
    "annotate train corpus --out my.ckpt",
    "annotate train corpus -o paper.ckpt --preset paper --device cuda",
)
def train(
    corpus: CorpusIn,
    out: CheckpointOut,
    preset: Annotated[
        Preset, typer.Option(help="Settings to begin with. paper: exactly those of arXiv 2501.15063.")
    ] = "default",
    modalities: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Modalities to learn from, joined by commas.",
            show_default="all of the corpus",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Most epochs.", show_default="by the preset")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(metavar="RATE", help="Learning rate.", show_default="by the preset")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", help="Dialogues in a batch.", show_default="32")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Random seed.", show_default="0")] = None,
    log: Log = None,
    device: Device = None,
    config: Config = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_file: LogFile = None,
    log_json: LogJson = False,
) -> None:
    """Train a network from scratch.

    A training that was stopped goes on when you give the same command again.
    """
    set_up_logging(quiet, verbose, log_file, log_json)
    from annotator.device import resolve_device
    from train.logs import logged
    from train.loop import train_corpus
    from train.settings import TrainSettings, changes_from

    changes = changes_from(
        TrainSettings,
        config,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        seed=seed,
        device=resolve_device(device or "auto"),
    )
    settings = TrainSettings.paper(**changes) if preset == "paper" else TrainSettings(**changes)
    trained = train_corpus(
        corpus,
        out,
        preset=preset,
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


@command(
    TRAIN,
    "annotate ablation corpus --out ablation --quick",
    "annotate ablation corpus -o ablation --seeds 3",
)
def ablation(
    corpus: CorpusIn,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for trainings, tables and curves.")
    ],
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Trainings of each variant.")] = 5,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Variants or tables to train, joined by commas, and those they are compared with.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(metavar="N", help="Epochs of each training.", show_default="by the preset"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", metavar="", help="Try it out: one seed, two epochs, few variants.")
    ] = False,
    device: Device = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_file: LogFile = None,
    log_json: LogJson = False,
) -> None:
    """Train variants of the network with several seeds each, and compare them.

    It goes on where it was when you give the same command again.
    """
    set_up_logging(quiet, verbose, log_file, log_json)
    from annotator.device import resolve_device
    from train.ablation import ablate

    ablate(
        corpus,
        out,
        seeds=seeds,
        only=[name.strip() for name in only.split(",")] if only else None,
        quick=quick,
        epochs=epochs,
        device=resolve_device(device or "auto"),
        progress=not quiet,
    )
    say(f"{out / 'ablation.md'}")
