"""Models that take the items' text, small, over random text."""

from typing import Any

import torch

from trainables.base import NextItemModel
from trainables.next_item.llm2bert4rec import LLM2BERT4Rec
from trainables.next_item.morec import MoRec
from trainables.next_item.preferdiff_t import PreferDiffT
from trainables.next_item.unisrec import UniSRec

SMALL: dict[type[Any], dict[str, Any]] = {
    PreferDiffT: {"diffusion_steps": 20, "ddim_steps": 4, "variant": "released"},
    MoRec: {"size": 8},
    LLM2BERT4Rec: {"size": 8},
    UniSRec: {"size": 8, "experts": 3},
}
"""Per model, the parameters that make it small."""

OF_ANY_ITEMS = (PreferDiffT, MoRec, UniSRec)
"""Models without a parameter that belongs to an item."""


def random_text(items: int = 50, size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(items, size, generator=torch.Generator().manual_seed(seed)) + 1


def make(method: type[Any], items: int = 50, text_seed: int = 0, **parameters: Any) -> NextItemModel:
    torch.manual_seed(0)
    model: NextItemModel = method(items, 6, random_text(items, seed=text_seed), **{**SMALL[method], **parameters})
    return model
