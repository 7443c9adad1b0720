"""The text encoder in a fine-tuning: its adapter, and what it reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import nn

from annotator.encode import can_read, make_encoder, part_file
from annotator.encode.adapters import load_adapter, save_adapter
from annotator.encode.text import TextEncoder
from annotator.records import UsageError, Utterance
from model import Checkpoint
from train.adapter import ADAPTER, LAYERS
from train.corpus import Corpus
from train.joint import Texts
from train.prepare.languages import dialogue_languages


def spec_with_adapter(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of a text encoder once its adapter has been trained.

    Without its second encoder: that was made for the vectors of the first as they were.
    """
    return {key: value for key, value in spec.items() if key != "second"} | {"adapter": ADAPTER}


def trainable_encoder(
    spec: Mapping[str, Any], folder: Path, device: str, rank: int, seed: int
) -> TextEncoder:
    """A text encoder whose adapter can be trained: the start's own, or a new one where it has none.

    Args:
        spec: of the start's text encoder.
        folder: the start's.
        rank: of a new adapter.

    Raises:
        UsageError: it is of another package.
    """
    from peft import LoraConfig, inject_adapter_in_model

    bare = {key: value for key, value in spec.items() if key not in ("adapter", "second")}
    encoder = make_encoder("text", bare, folder, device)
    if not isinstance(encoder, TextEncoder):
        raise UsageError(f"The text encoder {encoder.name} has no adapter to train: use --text frozen.")
    if spec.get("adapter") is not None:
        file = part_file(spec["adapter"], folder)
        encoder.projection = load_adapter(encoder.module, file, merge=False)
        if encoder.projection is not None:
            encoder.projection.requires_grad_(False).to(device)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            lora = LoraConfig(
                r=rank,
                lora_alpha=2 * rank,
                lora_dropout=0.1,
                target_modules=layers_of(encoder.module),
                use_rslora=False,
            )
            inject_adapter_in_model(lora, encoder.module)
    for name, parameter in encoder.module.named_parameters():
        parameter.requires_grad = "lora_" in name
    encoder.module.to(device).eval()
    return encoder


def save_text_adapter(encoder: TextEncoder, folder: Path) -> None:
    """Write the file of the adapter of a :func:`trainable_encoder` to a checkpoint's folder."""
    configs: Mapping[str, Any] = encoder.module.peft_config  # type: ignore[assignment]
    save_adapter(encoder.module, configs["default"], folder / ADAPTER, encoder.projection)


def layers_of(module: nn.Module) -> list[str]:
    """Names of the linear layers that an adapter changes: BERT's, or all of another model's."""
    linear = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    if any(name.endswith(tuple(f".{layer}" for layer in LAYERS)) for name in linear):
        return LAYERS
    return sorted({name.rpartition(".")[2] for name in linear})


def utterances_of(corpus: Corpus) -> dict[str, list[Utterance]]:
    """The utterances of each dialogue, as a text encoder takes them."""
    talks: dict[str, list[Utterance]] = {}
    languages = dialogue_languages(corpus.table)
    for row in corpus.table.select("dialogue_id", "utterance_id", "speaker", "text").iter_rows():
        dialogue, number, speaker, text = row
        alone = Utterance(0, number, float(number), number + 0.5, speaker, 0.0, text or None)
        talks.setdefault(dialogue, []).append(dataclasses.replace(alone, language=languages[dialogue]))
    return talks


def texts_by_dialogue(corpus: Corpus, encoder: TextEncoder) -> dict[str, Texts]:
    """What an encoder reads of each utterance, its context included, by dialogue."""
    return {dialogue: encoder.texts(talk) for dialogue, talk in utterances_of(corpus).items()}


def is_read_by_second(corpus: Corpus, spec: Mapping[str, Any]) -> bool:
    """Whether some of a corpus' text goes to the second encoder of a spec."""
    if "second" not in spec:
        return False
    name = str(spec["name"])
    said = (u for dialogue in utterances_of(corpus).values() for u in dialogue)
    return any(u.text is not None and not can_read(name, u.text, u.language) for u in said)


def text_languages(corpus: Corpus, start: Checkpoint, trained: bool) -> list[str] | None:
    """Languages in which a model fine-tuned on a corpus has learned emotions; None where the start is silent.

    Args:
        trained: the text encoder too, which may have lost what the start knew.
    """
    known = start.meta.get("text_languages")
    if not isinstance(known, list):
        return None
    texts = corpus.table.filter((pl.col("split") == "train") & pl.col("text").is_not_null())
    new = {language for language in dialogue_languages(texts).values() if language is not None}
    return sorted(new | (set() if trained else set(known)))
