"""Fine-tune the text encoder with a low-rank adapter, together with the network that reads it.

    python -m train.adapter CORPUS --dialogues DIALOGUES --out CHECKPOINT

1. Sentences: GoEmotions and EmoryNLP, a linear head for each, so that vectors carry emotion at all.
2. Dialogues: encoder and network are one model under the network's own loss. A network trained on the
   vectors of an encoder that has seen the same labels learns to trust them too much; trained together,
   both see the same error.

LoRA: Hu et al., ICLR 2022. State is kept after every epoch; the same command goes on after a kill.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from annotator.encode.text import TextEncoder, minilm_folder, save_adapter
from annotator.records import AnnotateError, Conversation, Features, UsageError
from annotator.table import written_whole
from model import Checkpoint, ModelConfig, Network, collate, compute_loss, save_checkpoint
from train.corpus import Corpus, LabelledConversation, load_corpus
from train.evaluate.calibration import calibrate
from train.evaluate.logits import targets
from train.loop import statistics, validate
from train.resume import load_state, save_state

log = logging.getLogger("annotator")

ADAPTER = "text.safetensors"
SPEC = {"name": "minilm", "adapter": ADAPTER}
# Every linear layer of BERT but the pooler, which is not used.
LAYERS = ["query", "key", "value", "intermediate.dense", "output.dense"]
# The network beside the encoder: regularised, since MELD is small, and with a head on the text alone, so
# that the encoder gets a direct gradient.
NETWORK = {"unimodal_heads": True, "feature_dropout": 0.3, "context_dropout": 0.4}
EKMAN = ("neutral", "anger", "disgust", "fear", "joy", "sadness", "surprise")


@dataclass(frozen=True)
class AdapterSettings:
    """How to train the adapter."""

    rank: int = 16
    sentence_epochs: int = 1
    dialogue_epochs: int = 6
    sentence_batch: int = 64
    dialogue_batch: int = 8
    lr: float = 5e-4  # of the adapter
    network_lr: float = 1e-3
    weight_decay: float = 0.01
    dropout: float = 0.1  # in the adapter
    seed: int = 0
    device: str = "cpu"
    limit: int | None = None  # sentences of each set and dialogues, for a quick run


@dataclass(frozen=True)
class Sentences:
    """A set of single sentences with one label each."""

    name: str
    texts: tuple[str, ...]
    labels: NDArray[np.int64]  # (n,)
    classes: int


def goemotions(folder: Path) -> Sentences:
    """Reddit comments with exactly one of six basic emotions or neutral (Demszky et al., ACL 2020)."""
    names = (folder / "emotions.txt").read_text("utf-8").split()
    groups: dict[str, list[str]] = json.loads((folder / "ekman_mapping.json").read_text("utf-8"))
    of = {member: group for group, members in groups.items() for member in members} | {"neutral": "neutral"}
    texts, labels = [], []
    for line in (folder / "train.tsv").read_text("utf-8").splitlines():
        text, numbers, _ = line.split("\t")
        found = {of[names[int(n)]] for n in numbers.split(",")}
        if len(found) == 1:
            # The comments stand for names by a mark that dialogues don't have.
            texts.append(re.sub(r"\[(NAME|RELIGION)\]", "Alex", text))
            labels.append(EKMAN.index(found.pop()))
    return Sentences("goemotions", tuple(texts), np.array(labels), len(EKMAN))


def emorynlp(corpus: Path, held_out: Sequence[str]) -> Sentences:
    """EmoryNLP's training utterances (Zahiri & Choi, 2018) but for scenes that share lines with ``held_out``.

    Both corpora annotate the same series: a scene with a line of five words or more that
    also stands in another corpus' validation or test set is left out whole.
    """
    table = pl.read_csv(corpus / "train.csv", infer_schema_length=None)
    known = {key for text in held_out if (key := line_key(text)) is not None}
    shared = {
        row["Dialogue_ID"]
        for row in table.iter_rows(named=True)
        if (key := line_key(row["Utterance"])) is not None and key in known
    }
    kept = table.filter(~pl.col("Dialogue_ID").is_in(sorted(shared)))
    names = sorted(set(table["Emotion"]))
    log.info(
        "EmoryNLP: %d of %d scenes share lines and are left out", len(shared), table["Dialogue_ID"].n_unique()
    )
    return Sentences(
        "emorynlp",
        tuple(kept["Utterance"]),
        np.array([names.index(e) for e in kept["Emotion"]]),
        len(names),
    )


def line_key(text: str) -> str | None:
    """A line without case and punctuation; None when it is too short to tell scenes apart."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return " ".join(words) if len(words) >= 5 else None


class JointModel(nn.Module):
    """Text encoder and network as one: the corpus' text vectors are replaced by the encoder's own."""

    def __init__(self, encoder: TextEncoder, network: Network, text: pl.Series) -> None:
        super().__init__()
        self.encoder, self.network = encoder, network
        self.module = encoder.module  # registered, so that its parameters are ours
        self.texts = text.to_list()

    def forward(self, conversations: Sequence[LabelledConversation]) -> Any:
        batch = collate([c.conversation for c in conversations], self.network.config.modalities)
        texts = [self.texts[c.first_row + i] or "" for c in conversations for i in range(len(c))]
        vectors = encode_trained(self.encoder, texts)  # (V, d), in the order of the mask
        features = batch.features["text"].clone()
        features[batch.mask] = vectors
        batch.features["text"] = features
        return self.network(batch)


def encode_trained(encoder: TextEncoder, texts: Sequence[str]) -> Tensor:
    """Vectors ``(n, d)`` with gradients, by length in two halves to save padding."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    half = (len(order) + 1) // 2
    parts = []
    for rows in (order[:half], order[half:]):
        if rows:
            with torch.autocast(encoder.device.type, torch.bfloat16):
                parts.append(encoder.pool(encoder.tokenize([texts[i] for i in rows])))
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return torch.cat(parts)[back]


def with_vectors(corpus: Corpus, split: str, encoder: TextEncoder) -> list[LabelledConversation]:
    """The dialogues of a split with the encoder's present vectors, for validation and calibration."""
    dialogues = corpus.conversations(split)
    texts = corpus.table["text"].to_list()
    flat = [texts[d.first_row + i] or "" for d in dialogues for i in range(len(d))]
    values = encoder.encode_texts(flat)
    result, start = [], 0
    for d in dialogues:
        known = d.conversation.features["text"]
        own = Features(np.where(known.present[:, None], values[start : start + len(d)], 0), known.present)
        talk = Conversation(d.conversation.speakers, {**d.conversation.features, "text": own})
        result.append(LabelledConversation(talk, d.fine, d.coarse, d.dialogue_id, d.first_row))
        start += len(d)
    return result


def adaptable(settings: AdapterSettings) -> tuple[TextEncoder, Any]:
    """The embedded encoder with a fresh adapter, the only part with gradients, and the adapter's config."""
    from peft import LoraConfig, inject_adapter_in_model

    torch.manual_seed(settings.seed)
    encoder = TextEncoder("minilm", minilm_folder(), settings.device)
    lora = LoraConfig(
        r=settings.rank,
        lora_alpha=2 * settings.rank,
        lora_dropout=settings.dropout,
        target_modules=LAYERS,
        use_rslora=False,
    )
    inject_adapter_in_model(lora, encoder.module)
    for name, parameter in encoder.module.named_parameters():
        parameter.requires_grad = "lora_" in name
    return encoder, lora


def train_sentences(
    sets: Sequence[Sentences], file: Path, settings: AdapterSettings, work: Path, *, progress: bool = True
) -> None:
    """Only the first stage: an adapter that has seen emotions, but none of the corpus that a network learns.

    Such vectors of training dialogues are as reliable as those of any others.
    """
    work.mkdir(parents=True, exist_ok=True)
    encoder, lora = adaptable(settings)
    _sentence_stage(encoder, sets, settings, work, progress)
    encoder.module.eval()
    with written_whole(file) as temporary:
        save_adapter(encoder.module, lora, temporary)


def train_adapter(
    corpus_folder: Path,
    dialogues: Path,
    out: Path,
    settings: AdapterSettings,
    *,
    config: dict[str, Any] | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Train and write the checkpoint ``out``, its adapter file included. Returns validation scores.

    Args:
        corpus_folder: a corpus with text, whose train split is learned.
        dialogues: folder with ``goemotions`` and ``emorynlp``, for the first stage.
        config: fields of the network to set otherwise than ``ModelConfig.default`` and ``NETWORK``.
    """
    corpus = load_corpus(corpus_folder)
    if "text" not in corpus.table.columns:
        raise UsageError(f"{corpus_folder} has no text to train an encoder on.")
    work = out.with_name(out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    encoder, lora = adaptable(settings)
    held_out = corpus.table.filter(pl.col("split") != "train")["text"].drop_nulls().to_list()
    sets = [goemotions(dialogues / "goemotions"), emorynlp(dialogues / "emorynlp", held_out)]
    _sentence_stage(encoder, sets, settings, work, progress)

    start = with_vectors(corpus, "train", encoder)
    network = Network(
        ModelConfig.default({"text": encoder.width}, len(corpus.labels), **{**NETWORK, **(config or {})})
    )
    network.set_normalisation(statistics(start, ("text",)))
    network.to(settings.device)
    best = _dialogue_stage(corpus, encoder, network, settings, work, progress)

    validation = with_vectors(corpus, "validation", encoder)
    fine, coarse = targets(corpus.conversations("train"))
    prior = {
        "fine": (np.bincount(fine[fine >= 0], minlength=len(corpus.labels)) / (fine >= 0).sum()).tolist(),
        "coarse": (np.bincount(coarse[coarse >= 0], minlength=3) / (coarse >= 0).sum()).tolist(),
    }
    save_checkpoint(
        out,
        Checkpoint(
            network=network,
            labels=corpus.labels,
            name=out.stem,
            version="1",
            encoders={"text": SPEC},
            calibration=calibrate(network, validation, prior),
            prior=prior,
            meta={"settings": asdict(settings), "validation": best},
        ),
    )
    save_adapter(encoder.module, lora, out / ADAPTER)
    return best


def _schedule(step: int, steps: int) -> float:
    """A short linear rise, then a linear fall."""
    rise = max(1, steps // 20)
    return min((step + 1) / rise, max(0.0, (steps - step) / max(1, steps - rise)))


def _state(encoder: TextEncoder, extra: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    adapter = {n: p for n, p in encoder.module.named_parameters() if p.requires_grad}
    return {"adapter": adapter, "extra": extra.state_dict(), "optimizer": optimizer.state_dict()}


def _restore(
    state: dict[str, Any], encoder: TextEncoder, extra: nn.Module, optimizer: torch.optim.Optimizer | None
) -> None:
    encoder.module.load_state_dict(state["adapter"], strict=False)
    extra.load_state_dict(state["extra"])
    if optimizer is not None:
        optimizer.load_state_dict(state["optimizer"])


def _sentence_stage(
    encoder: TextEncoder,
    sets: Sequence[Sentences],
    settings: AdapterSettings,
    work: Path,
    progress: bool,
) -> None:
    """One head a set of labels, batches of one set each in random order."""
    file = work / "sentences.safetensors"
    trained = [p for p in encoder.module.parameters() if p.requires_grad]
    heads = nn.ModuleDict({s.name: nn.Linear(encoder.width, s.classes) for s in sets}).to(encoder.device)
    optimizer = torch.optim.AdamW(
        [*trained, *heads.parameters()], settings.lr, weight_decay=settings.weight_decay
    )
    done = 0
    if file.exists():
        state = load_state(file)
        _restore(state, encoder, heads, optimizer)
        done = int(state["epoch"])
    for epoch in range(done, settings.sentence_epochs):
        rng = np.random.default_rng([settings.seed, epoch])
        torch.manual_seed(settings.seed * 1000 + epoch)
        batches = list(_batches(sets, settings, rng))
        steps = len(batches) * settings.sentence_epochs
        encoder.module.train()
        bar = tqdm(batches, desc="sentences", unit="batch", disable=None if progress else True)
        for number, (which, rows) in enumerate(bar):
            rate = _schedule(epoch * len(batches) + number, steps)
            optimizer.param_groups[0]["lr"] = settings.lr * rate
            vectors = encode_trained(encoder, [which.texts[i] for i in rows])
            target = torch.from_numpy(which.labels[rows]).to(encoder.device)
            loss = F.cross_entropy(heads[which.name](vectors), target)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([*trained, *heads.parameters()], 1.0)
            optimizer.step()
            bar.set_postfix(loss=f"{loss.item():.3f}")
        save_state(file, {**_state(encoder, heads, optimizer), "epoch": epoch + 1})
        log.info("sentences: epoch %d done", epoch + 1)


def _batches(
    sets: Sequence[Sentences], settings: AdapterSettings, rng: np.random.Generator
) -> Iterator[tuple[Sentences, NDArray[np.int64]]]:
    found = []
    for s in sets:
        order = rng.permutation(len(s.texts))[: settings.limit]
        # Sentences of like length together, in pools of many batches: half the padding.
        for pool in np.array_split(order, max(1, len(order) // (50 * settings.sentence_batch))):
            pool = pool[np.argsort([len(s.texts[i]) for i in pool], kind="stable")]
            pieces = np.array_split(pool, max(1, len(pool) // settings.sentence_batch))
            found += [(s, rows) for rows in pieces]
    for i in rng.permutation(len(found)):
        yield found[i]


def _dialogue_stage(
    corpus: Corpus,
    encoder: TextEncoder,
    network: Network,
    settings: AdapterSettings,
    work: Path,
    progress: bool,
) -> dict[str, float]:
    """Encoder and network on whole dialogues; the best validation epoch is kept."""
    file, best_file = work / "dialogues.safetensors", work / "best.safetensors"
    trained = [p for p in encoder.module.parameters() if p.requires_grad]
    joint = JointModel(encoder, network, corpus.table["text"])
    dialogues = corpus.conversations("train")
    if settings.limit:
        dialogues = dialogues[: settings.limit]
    groups = [
        {"params": trained, "lr": settings.lr},
        {"params": list(network.parameters()), "lr": settings.network_lr},
    ]
    rates = [settings.lr, settings.network_lr]
    optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    history: list[dict[str, float]] = []
    if file.exists():
        state = load_state(file)
        _restore(state, encoder, network, optimizer)
        history = state["history"]
    steps_an_epoch = -(-len(dialogues) // settings.dialogue_batch)
    for epoch in range(len(history), settings.dialogue_epochs):
        began = time.perf_counter()
        order = np.random.default_rng([settings.seed, 1, epoch]).permutation(len(dialogues))
        torch.manual_seed(settings.seed * 1000 + 500 + epoch)
        joint.train()
        total = 0.0
        bar = tqdm(range(steps_an_epoch), desc=f"dialogues {epoch + 1}", disable=None if progress else True)
        for step in bar:
            rate = _schedule(epoch * steps_an_epoch + step, steps_an_epoch * settings.dialogue_epochs)
            for group, base in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = base * rate
            rows = order[step * settings.dialogue_batch : (step + 1) * settings.dialogue_batch]
            drawn = [dialogues[i] for i in rows]
            fine, coarse = (torch.from_numpy(t).to(encoder.device) for t in targets(drawn))
            loss = compute_loss(joint(drawn), fine, coarse, network.config)
            optimizer.zero_grad()
            loss.total.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([*trained, *network.parameters()], 1.0)
            optimizer.step()
            total += loss.fine.item()
            bar.set_postfix(loss=f"{total / (step + 1):.3f}")
        joint.eval()
        found = validate(network, with_vectors(corpus, "validation", encoder))
        history.append(
            {
                "epoch": epoch + 1,
                "loss": total / steps_an_epoch,
                "weighted_f1": found.weighted_f1,
                "accuracy": found.accuracy,
                "seconds": time.perf_counter() - began,
            }
        )
        log.info("dialogues: %s", json.dumps(history[-1]))
        state = {**_state(encoder, network, optimizer), "history": history}
        if max(history, key=lambda h: h["weighted_f1"]) is history[-1]:
            save_state(best_file, state)
        save_state(file, state)
    _restore(load_state(best_file), encoder, network, None)
    encoder.module.eval()
    return max(history, key=lambda h: h["weighted_f1"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m train.adapter", description="Adapt the text encoder.")
    parser.add_argument("corpus", type=Path, help="a corpus with text, from `annotate prepare`")
    parser.add_argument("--dialogues", type=Path, required=True, help="folder with goemotions/ and emorynlp/")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=AdapterSettings.dialogue_epochs, help="of dialogues")
    parser.add_argument("--rank", type=int, default=AdapterSettings.rank)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit", type=int, default=None, help="sentences and dialogues, for a quick run")
    a = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    settings = AdapterSettings(
        rank=a.rank, dialogue_epochs=a.epochs, seed=a.seed, device=a.device, limit=a.limit
    )
    try:
        best = train_adapter(a.corpus, a.dialogues, a.out, settings)
    except AnnotateError as error:
        print(f"train.adapter: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(best))
    return 0


if __name__ == "__main__":
    sys.exit(main())
