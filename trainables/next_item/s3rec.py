"""S³-Rec (Zhou et al. 2020), a row of PreferDiff's Table 8: self-supervised pretraining, then SASRec's task.

Legend: B histories, L positions, I items, A attributes of an item, N attributes in all, D embedding size, M masked
positions of a batch, S sequences to pretrain on, P prefixes of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.base import (
    DropoutRate,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Probability,
    SequenceBatch,
    SequenceSource,
)
from trainables.next_item.adamw_trained import AdamWTrained
from trainables.next_item.attributes import multi_hot
from trainables.next_item.full_softmax import full_softmax_loss
from trainables.next_item.item_embedding import ItemEmbedding

READ_AT_ONCE = 8192
"""Histories."""


class S3Rec(AdamWTrained):
    """A self-attention encoder that is pretrained to know what belongs together, and then predicts the next item.

    Four tasks of pretraining, each of a pair of views: an item and its attributes (AAP), a history and a masked item
    (MIP), a history and a masked item's attributes (MAP), a history and a masked segment of it (SP). The encoder sees
    both sides while it is pretrained, the past alone afterwards.

    Args:
        items: number of items.
        history_length: positions of a history.
        attribute_IA: the items' categories and brands.
        size: embedding size.
        dropout: of embeddings, attention and feed-forward, in both phases.
        heads: attention heads.
        layers: attention layers.
        pretraining_epochs: passes over all prefixes of the training data before the first epoch; Zhou et al. choose
            among 10 … 100.
        pretraining_batch_size: prefixes of a batch there.
        mask_probability: of an item before a prefix's last one, which is always masked.
        attribute_weight: of AAP in the sum of losses.
        item_weight: of MIP.
        masked_attribute_weight: of MAP.
        segment_weight: of SP.

    The other parameters are as in `AdamWTrained`, of both phases.

    Source: Zhou et al. 2020, §4 (eq. 4–10) and §5.1.4 (2 layers, 2 heads, size 64; weights 0.2, 1, 1, 0.5; mask 0.2),
    with one negative item, a masked one, and one negative segment, both from the batch. From the authors' program
    (github.com/aHuiWang/CIKM2020-S3Rec): every prefix of a training sequence, target included, is pretrained on, its
    last item masked; attributes are told by a binary cross-entropy that is summed over all of them; losses are summed
    over the positions of a prefix; a negative segment stands where the masked one was; dropout is 0.5. Fine-tuned with
    cross-entropy over all items at the last position, as the other methods here, where Zhou et al. take a pairwise
    loss.

    What the program has otherwise, and the paper does not say: AAP reads the encoder's states, at items that are not
    masked, where eq. 4 reads the embedding of an item; in MIP and SP both scores pass a sigmoid before their difference
    does; a negative item is any that the prefix lacks, and a negative segment may be of validation and test.

    Raises:
        ValueError: the size is no multiple of the number of heads.
    """

    def __init__(
        self,
        items: int,
        history_length: int,
        attribute_IA: Tensor,
        *,
        size: PositiveInt = 64,
        dropout: DropoutRate = 0.5,
        heads: PositiveInt = 2,
        layers: PositiveInt = 2,
        pretraining_epochs: NonNegativeInt = 100,
        pretraining_batch_size: PositiveInt = 256,
        mask_probability: Probability = 0.2,
        attribute_weight: NonNegativeFloat = 0.2,
        item_weight: NonNegativeFloat = 1.0,
        masked_attribute_weight: NonNegativeFloat = 1.0,
        segment_weight: NonNegativeFloat = 0.5,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if size % heads:
            raise ValueError(f"encoder: size {size} is no multiple of {heads} heads; change size or heads")
        self.dropout = dropout
        self.pretraining_epochs = pretraining_epochs
        self.pretraining_batch_size = pretraining_batch_size
        self.mask_probability = mask_probability
        self.weights = (attribute_weight, item_weight, masked_attribute_weight, segment_weight)
        self.embedding = ItemEmbedding(items, size)
        self.position_LD = nn.Parameter(torch.randn(history_length + 1, size))
        self.mask_D = nn.Parameter(torch.randn(size))
        self.embedding_norm = nn.LayerNorm(size)
        # Each drawn for itself, where nn.TransformerEncoder would copy one.
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(size, heads, 4 * size, dropout, "gelu", batch_first=True) for _ in range(layers)
        )
        self.hot_IN: Tensor
        self.register_buffer("hot_IN", multi_hot(attribute_IA), persistent=False)
        self.attribute_ND = nn.Parameter(torch.randn(self.hot_IN.shape[1], size))
        self.item_to_attribute = nn.Linear(size, size)
        self.state_to_item = nn.Linear(size, size)
        self.state_to_attribute = nn.Linear(size, size)
        self.state_to_segment = nn.Linear(size, size)

    def prepare(self, train: SequenceSource) -> None:
        """Pretrain on all prefixes of the training data; noise and order come from torch's global generator."""
        optimizer, whole = self.optimizer(), whole_sequences(train)
        self.train()
        for _ in range(self.pretraining_epochs):
            for batch in shuffled_prefixes(whole, self.pretraining_batch_size):
                optimizer.zero_grad(set_to_none=True)
                self.pretraining_loss(batch).backward()
                optimizer.step()

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return the mean cross-entropy of the targets among all items."""
        return full_softmax_loss(self._last_state(batch), self.embedding.weight, batch.target_B - 1)

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return dot products of the histories' last states with all items [B, I]."""
        return self.embedding.scores(self._last_state(batch))

    def pretraining_loss(self, batch: SequenceBatch) -> Tensor:
        """Return the weighted sum of the four tasks' losses, a mean over sequences; targets are not looked at.

        Within a sequence losses are summed, so that a task counts as often as it has positions to tell of.
        """
        real_BL, length_B = batch.real_positions(), batch.length_B.long()
        last_BL = torch.arange(real_BL.shape[1]) == length_B.unsqueeze(1) - 1
        masked_BL = last_BL | (real_BL & (torch.rand(real_BL.shape) < self.mask_probability))
        item_BLD = self.embedding.histories(batch)
        state_BLD = self._states(torch.where(masked_BL.unsqueeze(-1), self.mask_D, item_BLD), real_BL, causal=False)
        losses = (
            self._attributes_of(self.item_to_attribute(item_BLD[real_BL]), batch.history_BL[real_BL]),
            self._masked_items(state_BLD[masked_BL], batch.history_BL[masked_BL]),
            self._attributes_of(self.state_to_attribute(state_BLD[masked_BL]), batch.history_BL[masked_BL]),
            self._segments(item_BLD, real_BL, length_B),
        )
        weighted = [weight * loss for weight, loss in zip(self.weights, losses, strict=True)]
        return torch.stack(weighted).sum() / len(batch)

    def _attributes_of(self, query_MD: Tensor, item_M: Tensor) -> Tensor:
        """Tell which of all attributes the items have, a sum over items and attributes: AAP and MAP.

        A mean over attributes, of which an item has few, would leave next to nothing of both tasks beside the others.
        """
        hot_MN = self.hot_IN[item_M.long() - 1]
        logits_MN = query_MD @ self.attribute_ND.T
        return functional.binary_cross_entropy_with_logits(logits_MN, hot_MN, reduction="sum")

    def _masked_items(self, state_MD: Tensor, item_M: Tensor) -> Tensor:
        """Tell a masked item from another masked one of the batch, a sum over masked items: MIP (eq. 6)."""
        if len(item_M) < 2:
            return state_MD.sum() * 0
        query_MD, item_MD = self.state_to_item(state_MD), self.embedding.weight[item_M.long() - 1]
        other_M = (torch.arange(len(item_M)) + torch.randint(1, len(item_M), (len(item_M),))) % len(item_M)
        margin_M = (query_MD * (item_MD - item_MD[other_M])).sum(1)
        return -functional.logsigmoid(margin_M[item_M != item_M[other_M]]).sum()

    def _segments(self, item_BLD: Tensor, real_BL: Tensor, length_B: Tensor) -> Tensor:
        """Tell a masked segment of a history from as many items of other histories in its place, a sum: SP (eq. 8).

        Both are seen at the same positions of the same history, masks around them, so that items alone tell which. A
        history of one item has no segment beside which something is left.
        """
        rows = len(length_B)
        if rows < 2:
            return item_BLD.sum() * 0
        segment_BL = random_segments(length_B, real_BL.shape[1])
        inside_BL1 = segment_BL.unsqueeze(-1)
        other_BLD = item_BLD[real_BL][items_of_others(segment_BL, length_B)]
        rest_BLD = torch.where(inside_BL1, self.mask_D, item_BLD)
        alone = [torch.where(inside_BL1, inside_BLD, self.mask_D) for inside_BLD in (item_BLD, other_BLD)]
        view_VLD = torch.cat([rest_BLD, *alone])
        state_VD = self._at_last(self._states(view_VLD, real_BL.repeat(3, 1), causal=False), length_B.repeat(3))
        rest_BD, segment_BD, other_BD = state_VD.chunk(3)
        margin_B = (self.state_to_segment(rest_BD) * (segment_BD - other_BD)).sum(1)
        return -functional.logsigmoid(margin_B[length_B > 1]).sum()

    def _last_state(self, batch: SequenceBatch) -> Tensor:
        state_BLD = self._states(self.embedding.histories(batch), batch.real_positions(), causal=True)
        return self._at_last(state_BLD, batch.length_B)

    def _states(self, item_BLD: Tensor, real_BL: Tensor, *, causal: bool) -> Tensor:
        """Return the states at all positions [B, L, D]; those of padded positions hold no meaning."""
        length = item_BLD.shape[1]
        embedded_BLD = self.embedding_norm(item_BLD + self.position_LD[:length])
        embedded_BLD = functional.dropout(embedded_BLD, self.dropout, self.training)
        future_LL = torch.ones(length, length, dtype=torch.bool).triu(1) if causal else None
        state_BLD: Tensor = embedded_BLD
        for layer in self.layers:
            state_BLD = layer(state_BLD, src_mask=future_LL, src_key_padding_mask=~real_BL)
        return state_BLD

    @staticmethod
    def _at_last(state_BLD: Tensor, length_B: Tensor) -> Tensor:
        return state_BLD.take_along_dim((length_B.long() - 1).view(-1, 1, 1), dim=1).squeeze(1)


def with_target(batch: SequenceBatch) -> SequenceBatch:
    """Return the histories with their targets at the end, one position longer."""
    history_BL = functional.pad(batch.history_BL, (0, 1))
    last_B1 = batch.length_B.long().unsqueeze(1)
    history_BL = history_BL.scatter(1, last_B1, batch.target_B.to(history_BL.dtype).unsqueeze(1))
    return replace(batch, history_BL=history_BL, length_B=batch.length_B + 1)


def whole_sequences(train: SequenceSource) -> SequenceBatch:
    """Return all histories of a split with their targets at the end, in stored order."""
    parts = [with_target(batch) for batch in train.batches(READ_AT_ONCE)]
    columns = [[getattr(part, name) for part in parts] for name in ("history_BL", "length_B", "target_B")]
    return SequenceBatch(*map(torch.cat, columns))


def shuffled_prefixes(whole: SequenceBatch, batch_size: int) -> Iterator[SequenceBatch]:
    """Yield every prefix of every sequence once, down to those of one item, the last batch possibly short.

    Args:
        whole: the sequences, S of them.
        batch_size: prefixes of a batch.
    """
    length_S = whole.length_B.long()
    row_P = torch.arange(len(whole)).repeat_interleave(length_S)
    length_P = torch.arange(len(row_P)) - (length_S.cumsum(0) - length_S)[row_P] + 1
    for prefix_B in torch.randperm(len(row_P)).split(batch_size):
        row_B, length_B = row_P[prefix_B], length_P[prefix_B]
        inside_BL = torch.arange(whole.history_BL.shape[1]) < length_B.unsqueeze(1)
        yield SequenceBatch(whole.history_BL[row_B] * inside_BL, length_B, whole.target_B[row_B])


def random_segments(length_B: Tensor, positions: int) -> Tensor:
    """Draw a run of 1 to half of the positions of each history, which it covers [B, L]."""
    size_B = 1 + (torch.rand(len(length_B)) * (length_B // 2).clamp(min=1)).long()
    start_B = (torch.rand(len(length_B)) * (length_B - size_B + 1)).long()
    position_L = torch.arange(positions)
    return (position_L >= start_B.unsqueeze(1)) & (position_L < (start_B + size_B).unsqueeze(1))


def items_of_others(segment_BL: Tensor, length_B: Tensor) -> Tensor:
    """Draw for each history's segment a run of as many items of the other histories, in the segment's positions.

    Returns:
        Numbers of items among the real ones of all histories, row after row, int64 [B, L]; outside of segments they
        hold no meaning. Where the others have fewer items than the segment, the run goes on in its own history.
    """
    length_B, size_B = length_B.long(), segment_BL.sum(1)
    items = int(length_B.sum())
    starts_B = (items - length_B - size_B + 1).clamp(min=1)
    start_B = length_B.cumsum(0) + (torch.rand(len(length_B)) * starts_B).long()
    return (start_B.unsqueeze(1) + segment_BL.cumsum(1) - 1) % items
