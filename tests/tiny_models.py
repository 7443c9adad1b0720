"""Whisper, pyannote's pipeline and a text encoder in their own formats, with weights of few numbers."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np

TEXT = " Hello there. Größe!"


def make_whisper(folder: Path) -> Path:
    """A Whisper of 16 dimensions over bytes whose decoder has learnt to say ``TEXT``, whatever it hears."""
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )
    from transformers.convert_slow_tokenizer import bytes_to_unicode
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.manual_seed(0)
    signs = bytes_to_unicode().values()  # type: ignore[no-untyped-call]
    tokenizer = WhisperTokenizer(vocab={sign: i for i, sign in enumerate(signs)}, merges=[])
    prompt = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [*prompt, "<|de|>", "<|translate|>", "<|nospeech|>"]}
    )
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=16).save_pretrained(folder)  # type: ignore[no-untyped-call]
    number = tokenizer.get_vocab()
    start, end = number[prompt[0]], tokenizer.eos_token_id
    config = WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=16, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        max_target_positions=64, pad_token_id=end, bos_token_id=end, eos_token_id=end,
        decoder_start_token_id=start, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        decoder_start_token_id=start, eos_token_id=end, pad_token_id=end, max_length=64, is_multilingual=True,
        lang_to_id={token: number[token] for token in ("<|en|>", "<|de|>")},
        task_to_id={"transcribe": number["<|transcribe|>"], "translate": number["<|translate|>"]},
        no_timestamps_token_id=number["<|notimestamps|>"], alignment_heads=[[0, 1], [0, 0]],
    )  # fmt: skip
    text = tokenizer(TEXT, add_special_tokens=False).input_ids
    ids = torch.tensor([[*(number[token] for token in prompt), *text, end]])
    heard = torch.randn(1, 50, 16)
    optimizer = torch.optim.Adam(model.model.decoder.parameters(), lr=1e-2)
    for _ in range(150):
        hidden = model.model.decoder(input_ids=ids[:, :-1], encoder_hidden_states=heard).last_hidden_state
        loss = torch.nn.functional.cross_entropy(model.proj_out(hidden)[0], ids[0, 1:])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.save_pretrained(folder)
    return folder


def make_roberta(folder: Path) -> Path:
    """A text encoder of 24 dimensions, with MiniLM's tokenizer and random weights."""
    import torch
    from transformers import AutoTokenizer, RobertaConfig, RobertaModel

    from annotator.encode.weights import minilm_folder

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(str(minilm_folder()), local_files_only=True)
    tokenizer.save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=140, pad_token_id=0,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(folder)
    return folder


def make_decoder(folder: Path, kind: str) -> Path:
    """A language model of 32 dimensions (``qwen2``, ``llama`` or ``gemma2``), with MiniLM's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from annotator.encode.weights import minilm_folder

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(str(minilm_folder()), local_files_only=True)
    if kind != "qwen2":  # which has none
        tokenizer.bos_token = "[CLS]"
    tokenizer.save_pretrained(folder)
    config = AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, intermediate_size=64, max_position_embeddings=2048, pad_token_id=0,
        tie_word_embeddings=True,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def make_pyannote(folder: Path) -> Path:
    """A folder laid out like community-1, with random weights of few numbers."""
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyannote.audio.core.task import Problem, Resolution, Specifications
        from pyannote.audio.models.embedding import XVectorMFCC
        from pyannote.audio.models.segmentation import PyanNet

        torch.manual_seed(0)
        segmentation = PyanNet(
            lstm={"hidden_size": 8, "num_layers": 1}, linear={"hidden_size": 8, "num_layers": 1}
        )
        segmentation.specifications = Specifications(
            problem=Problem.MONO_LABEL_CLASSIFICATION,
            resolution=Resolution.FRAME,
            duration=2.0,
            warm_up=(0.0, 0.0),
            classes=["a", "b", "c"],
            powerset_max_classes=2,
            permutation_invariant=True,
        )
        segmentation.setup()
        embedding = XVectorMFCC(dimension=16)
        embedding.specifications = Specifications(
            problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=2.0, classes=["a"]
        )
        embedding.setup()
        for name, model in (("segmentation", segmentation), ("embedding", embedding)):
            (folder / name).mkdir()
            checkpoint = {
                "state_dict": model.state_dict(),
                "hyper_parameters": dict(model.hparams),
                "pytorch-lightning_version": "2.6.0",
            }
            model.on_save_checkpoint(checkpoint)
            torch.save(checkpoint, folder / name / "pytorch_model.bin")
    (folder / "plda").mkdir()
    rng = np.random.default_rng(0)
    lda = rng.standard_normal((16, 8))
    np.savez(folder / "plda" / "xvec_transform.npz", mean1=np.zeros(16), mean2=np.zeros(8), lda=lda)
    np.savez(folder / "plda" / "plda.npz", mu=np.zeros(8), tr=np.eye(8), psi=np.linspace(2, 1, 8))
    (folder / "config.yaml").write_text(
        "dependencies: {pyannote.audio: 4.0.0}\n"
        "pipeline:\n"
        "  name: pyannote.audio.pipelines.SpeakerDiarization\n"
        "  params:\n"
        "    clustering: VBxClustering\n"
        "    segmentation: $model/segmentation\n"
        "    embedding: $model/embedding\n"
        "    embedding_exclude_overlap: true\n"
        "    plda: $model/plda\n"
        "params:\n"
        "  clustering: {threshold: 0.6, Fa: 0.07, Fb: 0.8}\n"
        "  segmentation: {min_duration_off: 0.0}\n"
    )
    return folder
