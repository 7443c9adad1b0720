"""The embedded multilingual text encoder, on its own weights."""

from __future__ import annotations

import ctypes
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from annotator.encode import check_encoder, make_encoder
from annotator.encode.e5 import load_e5
from annotator.encode.text import MAX_TOKENS, TextEncoder
from annotator.encode.weights import E5
from annotator.records import SetupError
from train.adapter import AdapterSettings
from train.adapter.encoder import TrainedEncoder

SPEC = {"name": "e5"}
# Beginnings and ends that make sentences: four by five of each language.
LANGUAGES = {
    "en": (["I am glad", "She was angry", "We do not know", "They told me"],
           ["because you came home.", "that the train is late!", "when it rained.", "what happened here?",
            "about the old house…"]),
    "de": (["Ich freue mich", "Sie war wütend", "Wir wissen nicht", "Man hat mir erzählt"],
           ["weil du gekommen bist.", "dass der Zug zu spät ist!", "als es regnete.", "was hier los war?",
            "über das alte Haus…"]),
    "fr": (["Je suis content", "Elle était fâchée", "Nous ne savons pas", "On m'a raconté"],
           ["parce que tu es venu.", "que le train est en retard !", "quand il pleuvait.", "quoi de neuf ?",
            "à propos de la maison…"]),
    "es": (["Me alegro", "Ella estaba enfadada", "No sabemos", "Me contaron"],
           ["porque has venido.", "¡que el tren llega tarde!", "cuando llovía.", "¿qué pasó aquí?",
            "sobre la casa vieja…"]),
    "pl": (["Cieszę się", "Ona była zła", "Nie wiemy", "Powiedzieli mi"],
           ["bo przyszedłeś.", "że pociąg się spóźnia!", "kiedy padał deszcz.", "co się tu stało?",
            "o starym domu…"]),
    "ru": (["Я рад", "Она сердилась", "Мы не знаем", "Мне сказали"],
           ["потому что ты пришёл.", "что поезд опаздывает!", "когда шёл дождь.", "что здесь случилось?",
            "о старом доме…"]),
    "tr": (["Mutluyum", "O kızgındı", "Bilmiyoruz", "Bana söylediler"],
           ["çünkü geldin.", "tren gecikti!", "yağmur yağarken.", "burada ne oldu?", "eski ev hakkında…"]),
    "ar": (["أنا سعيد", "كانت غاضبة", "لا نعرف", "قالوا لي"],
           ["لأنك جئت.", "إن القطار متأخر!", "عندما نزل المطر.", "ماذا حدث هنا؟", "عن البيت القديم…"]),
    "hi": (["मैं खुश हूँ", "वह नाराज़ थी", "हमें नहीं पता", "उन्होंने बताया"],
           ["क्योंकि तुम आए।", "कि ट्रेन देर से है!", "जब बारिश हुई।", "यहाँ क्या हुआ?", "पुराने घर के बारे में…"]),
    "ja": (["嬉しいです", "彼女は怒っていた", "分かりません", "聞きました"],
           ["あなたが来たから。", "電車が遅れている！", "雨が降ったとき。", "ここで何が？", "古い家のこと…"]),
}  # fmt: skip
SENTENCES = [f"{a} {b}" for begins, ends in LANGUAGES.values() for a, b in product(begins, ends)]


@pytest.fixture(scope="module")
def e5() -> TextEncoder:
    if E5.find() is None:
        pytest.skip(f"{E5.requirement} has no wheel for this machine")
    encoder = make_encoder("text", SPEC, None, "cpu")
    assert isinstance(encoder, TextEncoder)
    return encoder


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    normed: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return normed


def test_vectors_are_those_of_the_engine_that_the_file_was_made_for(e5: TextEncoder) -> None:
    file = E5.verified()
    libraries = sorted(file.parent.glob("_engine*.so"))
    if not libraries:
        pytest.skip("the wheel has no engine for this machine")
    engine = ctypes.CDLL(str(libraries[0]))
    engine.e5_load.restype = ctypes.c_void_p
    engine.e5_embed.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p]
    model = engine.e5_load(str(file).encode())
    expected = np.empty((len(SENTENCES), 384), np.float32)
    for row, sentence in zip(expected, SENTENCES, strict=True):
        engine.e5_embed(model, sentence.encode(), 1, row.ctypes.data_as(ctypes.c_void_p))
    engine.e5_free(ctypes.c_void_p(model))
    assert len(SENTENCES) == 200
    # It rounds what goes through the layers to 8 bits.
    assert (unit(e5.encode_texts(SENTENCES)) * expected).sum(1).min() > 0.999


def test_it_reads_what_it_is_told_in_other_languages(e5: TextEncoder) -> None:
    en, *others = (
        unit(e5.encode_texts([f"{begins[0]} {ends[0]}", f"{begins[1]} {ends[1]}"]))
        for begins, ends in LANGUAGES.values()
    )
    for other in others:
        assert en[0] @ other[0] > en[0] @ other[1] and en[1] @ other[1] > en[1] @ other[0]


def test_writing_does_not_matter_to_it(e5: TextEncoder) -> None:
    tokens = e5.tokenizer(["Ｃａｆé  now", "Cafe\u0301 now"], max_length=MAX_TOKENS)["input_ids"]
    assert tokens[0] == tokens[1]


def test_no_text_says_a_control_piece(e5: TextEncoder) -> None:
    (plain,) = e5.tokenizer(["word"], max_length=MAX_TOKENS)["input_ids"]
    (with_controls,) = e5.tokenizer(["<s> </s> <pad> word\t\n\u200b word"], max_length=MAX_TOKENS)[
        "input_ids"
    ]
    start, end, word = plain[0], plain[-1], plain[-2]
    inside = with_controls[1:-1]
    assert (with_controls[0], with_controls[-1]) == (start, end)
    assert not {start, end, e5.tokenizer.pad_token_id} & set(inside)
    assert inside[-2:] == [word, word], "all kinds of spaces are one"


def test_long_texts_keep_their_end_and_the_prefix(e5: TextEncoder) -> None:
    tokens = e5.tokenize(["first " + "word " * 300 + "last", "short"])
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    (ending,) = e5.tokenizer(["word last"], max_length=MAX_TOKENS)["input_ids"]
    prefix = len(e5.tokenizer([""], max_length=MAX_TOKENS)["input_ids"][0]) - 1
    assert ids.shape[1] == MAX_TOKENS and mask[0].all()
    assert ids[0, :prefix].tolist() == ids[1, :prefix].tolist() == ending[:prefix] and prefix > 1
    assert ids[0, prefix - len(ending) :].tolist() == ending[prefix:]
    assert mask[1].sum() == prefix + 2


def test_nothing_to_read_is_no_fault(e5: TextEncoder) -> None:
    assert e5.encode_texts([]).shape == (0, 384)
    assert np.isfinite(e5.encode_texts([" ", "\u200b", "😀" * 500])).all()


def test_its_width_is_known_without_loading_it(e5: TextEncoder) -> None:
    assert check_encoder("text", SPEC, None) == e5.width == 384


def test_what_an_adapter_learns_comes_back(e5: TextEncoder, tmp_path: Path) -> None:
    trained = TrainedEncoder(AdapterSettings(encoder="e5", rank=4))
    with torch.no_grad():
        for weight in trained.trained.values():
            weight.add_(0.02 * torch.randn(weight.shape))
    trained.to_adapter()
    trained.save(tmp_path / "text.safetensors")
    trained.module.eval()
    texts = SENTENCES[::50]
    expected = trained.text.encode_texts(texts)
    loaded = make_encoder("text", {**SPEC, "adapter": "text.safetensors"}, tmp_path, "cpu")
    assert isinstance(loaded, TextEncoder) and loaded.fingerprint != e5.fingerprint
    np.testing.assert_allclose(loaded.encode_texts(texts), expected, atol=1e-4)
    assert np.abs(expected - e5.encode_texts(texts)).max() > 0.01


def test_a_file_of_another_format_is_refused(e5: TextEncoder, tmp_path: Path) -> None:
    other = tmp_path / "e5.bin"
    other.write_bytes(b"something else" * 100)
    with pytest.raises(SetupError, match=r"e5.bin is no multilingual-e5-small"):
        load_e5(other)
    other.write_bytes(E5.verified().read_bytes()[:5_000_000])
    with pytest.raises(SetupError, match=r"e5.bin is no multilingual-e5-small"):
        load_e5(other)
