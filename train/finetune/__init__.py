"""Fine-tune a checkpoint on a corpus, also one with other labels.

settings.py  how, and what it came to
start.py     what is inherited, and each thing that isn't
text.py      the text encoder's adapter
loop.py      the loop
result.py    the folder that is left: checkpoint, figures, card, page
folds.py     cross-validation, for corpora of few dialogues
card.py, page.py
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from annotator import folders
from annotator.encode import make_encoder
from annotator.records import SetupError, UsageError
from annotator.weights import checkpoint_folder
from model import Checkpoint, CheckpointError, load_checkpoint
from train.checkpoints import check_place
from train.core import STATE, own_randomness, prior_of
from train.corpus import ENCODERS, Corpus, LabelledConversation, load_corpus
from train.distributed import group
from train.evaluate.bootstrap import LEAST_DIALOGUES, TOO_FEW
from train.evaluate.calibration import calibrate
from train.evaluate.logits import targets
from train.evaluate.report import difference, resting_on
from train.finetune.card import by_folds, within
from train.finetune.loop import Tuning
from train.finetune.result import Figures, write_result
from train.finetune.settings import TEXT_FROM, FinetuneSettings, Override, Plan, Step
from train.finetune.start import check_renewed, coarse_of, log_plan, make_network, make_plan, with_coarse
from train.finetune.text import (
    is_read_by_second,
    spec_with_adapter,
    text_languages,
    texts_by_dialogue,
    trainable_encoder,
)
from train.joint import JointModel
from train.prepare.reencode import fitting_text
from train.settings import changes_from

__all__ = ["FinetuneSettings", "Finetuned", "Override", "Plan", "Step", "finetune", "settings_from"]

log = logging.getLogger("annotator")


@dataclass(frozen=True)
class Finetuned:
    """A finished fine-tuning."""

    folder: Path
    plan: Plan
    history: tuple[Step, ...]
    best: Step
    figures: Figures | None  # None in all but the first of several processes

    def summary(self) -> list[str]:
        """The outcome as lines for people."""
        if self.figures is None:
            return []
        figures = self.figures
        m, bounds = figures.metrics, figures.bounds
        lines = [
            f"epoch {self.best.number} of {self.history[-1].number} was best on validation",
            f"{figures.split}: {resting_on(m)}; in percent",
            f"weighted F1 {within(m['weighted_f1'], bounds.scores['weighted_f1'])}, "
            f"accuracy {100 * m['accuracy']:.1f}, macro F1 {100 * m['macro_f1']:.1f}",
        ]
        beside = [(figures.start_title, figures.start)] if figures.start else []
        for title, other in [*beside, (f"always {figures.majority_label}", figures.majority)]:
            d = other.difference
            lines.append(
                f"against {title}: {100 * other.scores['weighted_f1']:.1f}, a difference of "
                f"{difference(d.weighted_f1, d.weighted_f1_interval)}"
            )
        if bounds.scores["weighted_f1"] is None:
            give = f"{TOO_FEW}, which {LEAST_DIALOGUES} in the {figures.split} split would give"
            lines.append(give + by_folds(figures.labelled_dialogues))
        return lines


def finetune(
    corpus_folder: Path,
    start_from: Path | str,
    out: Path,
    settings: FinetuneSettings | None = None,
    *,
    sentiments: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
    renew: Sequence[str] = (),
    name: str | None = None,
    licence: str = "other",
    progress: bool = True,
    on_epoch: Callable[[Step], None] | None = None,
) -> Finetuned:
    """Fine-tune a checkpoint on a corpus and write the checkpoint folder ``out``.

    Args:
        start_from: the checkpoint's folder, ``starter`` or ``hf:OWNER/NAME``.
        sentiments: label -> positive, neutral, negative or none, for labels whose utterances have no
            sentiment in the corpus and whose name doesn't tell it.
        config: fields of ``ModelConfig`` to set otherwise than in the start.
        renew: audio or face, where the corpus' features are of another encoder than the start's: the
            network's input for it is learnt anew, and the result has the corpus' encoder.
        licence: of the result, for its card.
        on_epoch: called after each epoch, once its state is on disk.

    Raises:
        UsageError: the corpus, the start or a setting doesn't fit; nothing is written.
        SetupError: the start can't be read, or an encoder lacks something.
    """
    settings = settings or FinetuneSettings()
    corpus, out = load_corpus(corpus_folder), Path(out)
    check_place(out)
    start_folder = checkpoint_folder(start_from)
    try:
        start = load_checkpoint(start_folder)
    except CheckpointError as error:
        raise SetupError(str(error)) from error
    coarse = coarse_of(corpus, sentiments or {})
    check_renewed(corpus, start, renew)
    check_encoders(corpus, start, start_folder, settings.device, renew)
    work = out.with_name(out.name + ".work")
    with (
        folders.claimed(work, "the folder of this fine-tuning's intermediate files"),
        group(settings.device) as workers,
        own_randomness(settings.device),
    ):
        device = str(workers.device(settings.device))
        seen = corpus
        for rank in range(workers.size):  # the first encodes, the others find its vectors
            if workers.rank == rank:
                seen = fitting_text(
                    corpus, start.encoders, start_folder, device,
                    splits=("train", "validation"), work=work / "text",
                )  # fmt: skip
            workers.wait()
        plan, changed = make_plan(seen, start, settings, coarse, config or {}, tuple(dict.fromkeys(renew)))
        train_set = with_coarse(seen.conversations("train"), corpus.labels, coarse)
        validation_set = with_coarse(seen.conversations("validation"), corpus.labels, coarse)
        check_labels(corpus, train_set, validation_set)
        network, new = make_network(start, changed, plan, train_set)
        network.to(device)
        if settings.text == "adapter" and "text" not in changed.modalities:
            raise UsageError(f"{start.name} has no text to train an encoder on: use --text frozen.")
        encoder = None
        by_second = "text" in changed.modalities and is_read_by_second(corpus, start.encoders["text"])
        if by_second and settings.text == "adapter":
            raise UsageError(
                f"{corpus.folder} has text in a language that the second text encoder of {start.name} reads. "
                "Only the first has an adapter that can be trained: use --text frozen."
            )
        if "text" in changed.modalities and trains_text(seen, settings) and not by_second:
            if "second" in start.encoders["text"]:
                why = "it follows the first, which is trained; kept if that does not help"
                left = Override("second text encoder, for other languages", "there", "left out", why)
                plan = dataclasses.replace(plan, overrides=(*plan.overrides, left))
            encoder = trainable_encoder(
                start.encoders["text"], start_folder, device, settings.rank, settings.seed
            )
        if workers.first:
            log_plan(plan, start)
            log.info("text encoder: %s", "its adapter is trained too" if encoder else "frozen")
        model = JointModel(network, encoder, texts_by_dialogue(corpus, encoder) if encoder else None)
        tuning = Tuning(
            model=model,
            new=new,
            settings=settings,
            workers=workers,
            file=work / STATE,
            train_set=train_set,
            validation_set=validation_set,
            starts_complete=set(plan.inherited_rows) == set(corpus.labels) and not plan.renewed,
        )
        tuning.run(name or out.stem, progress=progress, on_epoch=on_epoch)
        figures = None
        if workers.first:
            figures = _finish(
                out, corpus, start, start_folder, plan, tuning, settings,
                name=name or out.stem, licence=licence, fingerprints=seen.header.fingerprints,
                device=device, work=work,
            )  # fmt: skip
        workers.wait()
    return Finetuned(out, plan, tuple(tuning.history), tuning.best, figures)


def settings_from(config: Path | None = None, **given: Any) -> FinetuneSettings:
    """Settings from a TOML file and the options that are not None; a patience of 0 means never.

    Raises:
        UsageError: an unknown key, or a value that can't be.
    """
    return FinetuneSettings(**changes_from(FinetuneSettings, config, **given))


def _finish(
    out: Path,
    corpus: Corpus,
    start: Checkpoint,
    start_folder: Path,
    plan: Plan,
    tuning: Tuning,
    settings: FinetuneSettings,
    *,
    name: str,
    licence: str,
    fingerprints: Mapping[str, str],
    device: str,
    work: Path,
) -> Figures:
    """Calibrate on validation and write the folder."""
    model, best = tuning.model, tuning.best
    prior = prior_of(tuning.train_set, len(corpus.labels))
    if (targets(tuning.train_set)[1] < 0).all():  # no sentiment is known: the start's stand
        prior["coarse"] = start.prior.get("coarse", prior["coarse"])
    text_trained = best.stage == "text"
    encoders = {m: dict(spec) for m, spec in start.encoders.items()}
    encoders |= {m: dict(corpus.header.encoders[m]) for m in plan.renewed}
    if text_trained:
        encoders["text"] = spec_with_adapter(start.encoders["text"])
    validation = model.encoded(tuning.validation_set) if text_trained else tuning.validation_set
    languages = text_languages(corpus, start, text_trained) if "text" in encoders else None
    checkpoint = Checkpoint(
        network=model.network,
        labels=corpus.labels,
        name=name,
        version="1",
        encoders=encoders,
        calibration=calibrate(model.network, validation, prior),
        prior=prior,
        meta={
            **({"text_languages": languages} if languages is not None else {}),
            "start": f"{start.name} {start.version}",
            "fingerprints": {m: f for m, f in fingerprints.items() if m in encoders},
            "corpus": {
                "name": corpus.folder.resolve().name,
                **corpus.header.provenance,
                "counts": {s: c.model_dump() for s, c in corpus.header.counts.items()},
            },
            "settings": dataclasses.asdict(settings),
            "validation": dataclasses.asdict(best),
            "epochs": tuning.epochs_done,
            "torch": torch.__version__,
        },
    )
    figures = write_result(
        out, checkpoint, corpus, start, start_folder, plan, tuning.history, best,
        trained_text=model.encoder if text_trained else None, device=device, work=work, licence=licence,
    )  # fmt: skip
    folders.remove(work)
    return figures


def check_encoders(
    corpus: Corpus, start: Checkpoint, folder: Path, device: str, renew: Sequence[str] = ()
) -> None:
    """Voice and face features must be those of the start's encoders, but for those that are learnt anew.

    Text can be encoded again.

    Raises:
        UsageError: they are others.
    """
    for modality in ("audio", "face"):
        if modality not in corpus.modalities or modality not in start.config.modalities:
            continue
        spec, width = start.encoders.get(modality), start.config.input_dims[modality]
        theirs = corpus.header.encoders.get(modality)
        fits = spec == theirs and width == corpus.header.widths[modality]
        made = corpus.header.fingerprints.get(modality)
        if fits and spec is not None and made is not None:
            fits = make_encoder(modality, spec, folder, device).fingerprint == made
        if modality in renew:
            if fits:
                raise UsageError(
                    f"{corpus.folder} has the start's own {modality}: leave out --renew {modality}."
                )
            check_runnable(corpus, modality, device)
        elif not fits:
            again = f"annotate prepare ... --media DIR --model {folder}"
            anew = f", or learn that part of the network anew (--renew {modality})" if theirs else ""
            raise UsageError(
                f"{folder} was trained on {modality} features of width {width} from {spec}, "
                f"{corpus.folder} has width {corpus.header.widths[modality]} from {theirs}. "
                f"Prepare it again from the recordings ({again}){anew}."
            )


def check_runnable(corpus: Corpus, modality: str, device: str) -> None:
    """What made the corpus' features must be here, for the result to run on recordings.

    Raises:
        UsageError: it is no encoder of this tool, or another one by now.
        SetupError: its weights don't load.
    """
    spec, made = corpus.header.encoders[modality], corpus.header.fingerprints.get(modality)
    try:
        encoder = make_encoder(modality, spec, corpus.folder / ENCODERS, device)
    except UsageError as error:
        raise UsageError(
            f"{corpus.folder} has {modality} features of {spec.get('name')!r}; the result could not be run "
            f"on recordings: {error} Train from scratch with `annotate train`."
        ) from error
    if encoder.width != corpus.header.widths[modality] or made not in (None, encoder.fingerprint):
        raise UsageError(
            f"The {modality} encoder of {corpus.folder} gives other features now. Prepare it again."
        )


def check_labels(
    corpus: Corpus,
    train_set: list[LabelledConversation],
    validation_set: list[LabelledConversation],
) -> None:
    """There must be something to learn from and something to choose by.

    Raises:
        UsageError: a split without labels, or a label that training never shows.
    """
    fine = targets(train_set)[0]
    if (fine < 0).all() or (targets(validation_set)[0] < 0).all():
        raise UsageError(
            "Fine-tuning needs utterances with an emotion both in the train and the validation split."
        )
    counts = np.bincount(fine[fine >= 0], minlength=len(corpus.labels))
    never = [label for label, count in zip(corpus.labels, counts, strict=True) if not count]
    if never:
        log.warning("No training utterance is labelled %s: nothing is learnt of that.", ", ".join(never))


def trains_text(corpus: Corpus, settings: FinetuneSettings) -> bool:
    """Whether the text encoder's adapter is trained.

    Raises:
        UsageError: it is asked for, and the corpus has no text.
    """
    rows = corpus.table.filter(split="train").drop_nulls("emotion")
    known = rows["text"].len() - rows["text"].null_count() if "text" in rows.columns else 0
    if settings.text == "adapter" and not known:
        raise UsageError(f"{corpus.folder} has no text to train an encoder on: use --text frozen.")
    return settings.text == "adapter" or (settings.text == "auto" and known >= TEXT_FROM)
