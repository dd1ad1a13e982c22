"""Item-KNN (Deshpande, Karypis 2004): items are alike when the same users took them.

Legend: B histories, I items, U users of the training rows, N occurrences.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from trainables.base import Probability, SequenceSource
from trainables.next_item.nearest_items import NearestItems
from trainables.next_item.occurrences import occurrences


class ItemKNN(NearestItems):
    """Cosine similarities of the items' users, over all items: |U_i ∩ U_j| / √(|U_i| · |U_j|).

    A user is a training row, history and target together. All other items are neighbours: keeping the k nearest alone
    saves memory, which the sparse form here does not need.

    The parameters are as in `NearestItems`.

    Source: Deshpande, Karypis 2004, with Sarwar et al. 2001, §3.1.1, for the similarity; as a baseline that trained
    models may not beat, Ferrari Dacrema et al. 2019.
    """

    def __init__(self, items: int, history_length: int, *, decay: Probability = 1.0) -> None:
        super().__init__(items, history_length, decay=decay)
        # Both ways round: a sparse tensor cannot be transposed in inference mode.
        self.user_IU: Tensor
        self.item_UI: Tensor
        self.register_buffer("user_IU", torch.zeros(items, 1).to_sparse(), persistent=False)
        self.register_buffer("item_UI", torch.zeros(1, items).to_sparse(), persistent=False)

    def prepare(self, train: SequenceSource) -> None:
        """Note which users took each item."""
        pair_2N = torch.stack(occurrences(train)).unique(dim=1)
        length_I = torch.bincount(pair_2N[0], minlength=self.items).float().sqrt()
        value_N = 1 / length_I[pair_2N[0]]
        size = (self.items, len(train))
        self.user_IU = torch.sparse_coo_tensor(pair_2N, value_N, size, check_invariants=True).coalesce()
        self.item_UI = self.user_IU.t().coalesce()

    def summed_similarities(self, weight_IB: Tensor) -> Tensor:
        """Return every item's similarities to all items, summed with these weights [I, B]."""
        return _product(self.user_IU, _product(self.item_UI, weight_IB.to_sparse())).to_dense()


def _product(one: Tensor, other: Tensor) -> Tensor:
    """Return the product of two sparse matrices, sparse: most weights of a short history's items are zero."""
    with warnings.catch_warnings():
        # torch goes by way of its CSR tensors, and says once that they are in beta state.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        product: Tensor = torch.sparse.mm(one, other)
    return product
