"""Items whose text is most like the history's, by an encoder that no one trained for it.

Legend: B histories, I items, E text embedding size.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from trainables.base import Probability
from trainables.next_item.nearest_items import NearestItems
from trainables.next_item.text import Whitening, whitened


class NearestText(NearestItems):
    """Cosine similarities of text embeddings: what text alone tells, without a single training row.

    Args:
        items: number of items.
        history_length: positions of a history.
        text_IE: the items' text embeddings.
        decay: as in `NearestItems`.
        whitening: of the text embeddings.
    """

    def __init__(
        self,
        items: int,
        history_length: int,
        text_IE: Tensor,
        *,
        decay: Probability = 1.0,
        whitening: Whitening = "none",
    ) -> None:
        super().__init__(items, history_length, decay=decay)
        self.text_IE: Tensor
        self.register_buffer("text_IE", functional.normalize(whitened(text_IE, whitening)), persistent=False)

    def summed_similarities(self, weight_IB: Tensor) -> Tensor:
        """Return every item's similarities to all items, summed with these weights [I, B]."""
        return self.text_IE @ (self.text_IE.T @ weight_IB)
