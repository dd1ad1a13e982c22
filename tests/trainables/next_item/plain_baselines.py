"""SASRec, GRU4Rec and BERT4Rec with torch's own operations alone: what the fast forms must equal.

Legend: B histories, L positions, D embedding size, H heads, E = D / H, I items, M masked positions of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trainables.base import SequenceBatch
from trainables.next_item.appended import with_item_appended
from trainables.next_item.bert4rec import BERT4Rec, BidirectionalAttention
from trainables.next_item.gru4rec import GRU4Rec
from trainables.next_item.sasrec import SASRec
from trainables.next_item.transformer import TransformerEncoder


def looked_up(history_BL: Tensor, table_ID: Tensor) -> Tensor:
    """Return the items' embeddings [B, L, D]."""
    return functional.embedding((history_BL.long() - 1).clamp(min=0), table_ID)


class PlainSASRec(SASRec):
    """All positions encoded, torch's lookup, cross-entropy and AdamW."""

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), self.learning_rate, weight_decay=self.weight_decay)

    def loss(self, batch: SequenceBatch) -> Tensor:
        assert isinstance(self.encoder, TransformerEncoder)
        state_BLD = self.encoder.all_positions(looked_up(batch.history_BL, self.embedding.weight), batch.length_B)
        state_BD = state_BLD[torch.arange(len(batch)), batch.length_B.long() - 1]
        return functional.cross_entropy(state_BD @ self.embedding.weight.T, batch.target_B.long() - 1)


class PlainGRU4Rec(GRU4Rec):
    """Torch's lookup, cross-entropy and AdamW."""

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), self.learning_rate, weight_decay=self.weight_decay)

    def loss(self, batch: SequenceBatch) -> Tensor:
        state_BD = self.encoder(looked_up(batch.history_BL, self.embedding.weight), batch.length_B)
        return functional.cross_entropy(state_BD @ self.output.weight.T, batch.target_B.long() - 1)


def attended_everywhere(attention: BidirectionalAttention, x_BLD: Tensor, length_B: Tensor) -> Tensor:
    """Return the attended sequences [B, L, D] with queries, keys and values projected at all positions."""
    projected = attention.query_key_value(x_BLD).unflatten(-1, (3, attention.heads, -1))
    query_BHLE, key_BHLE, value_BHLE = projected.permute(2, 0, 3, 1, 4)
    score_BHLL = query_BHLE @ key_BHLE.transpose(-1, -2) * query_BHLE.shape[-1] ** -0.5
    padded_BL = torch.arange(x_BLD.shape[1]) >= length_B.unsqueeze(1)
    weight_BHLL = torch.softmax(score_BHLL.masked_fill(padded_BL[:, None, None], -torch.inf), dim=-1)
    weight_BHLL = functional.dropout(weight_BHLL, attention.dropout, attention.training)
    attended_BLD = attention.output((weight_BHLL @ value_BHLE).transpose(1, 2).flatten(2))
    normed_BLD: Tensor = attention.norm(x_BLD + functional.dropout(attended_BLD, attention.dropout, attention.training))
    return normed_BLD


class PlainBERT4Rec(BERT4Rec):
    """All positions attended from, restored and scored, torch's lookup, cross-entropy and AdamW."""

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), self.learning_rate, weight_decay=self.weight_decay)

    def loss(self, batch: SequenceBatch) -> Tensor:
        sequences = with_item_appended(batch, batch.target_B)
        masked_BL = self._cloze(sequences)
        item_BLD = looked_up(sequences.history_BL, self.embedding.weight)
        x_BLD = torch.where(masked_BL.unsqueeze(-1), self.mask_D, item_BLD) + self.position_LD
        x_BLD = functional.dropout(x_BLD, self.dropout, self.training)
        attended_BLD = attended_everywhere(self.attention, x_BLD, sequences.length_B)
        changed_BLD = functional.dropout(self.feed_forward(attended_BLD), self.dropout, self.training)
        state_BLD = self.output(self.norm(attended_BLD + changed_BLD))
        score_BLI = torch.addmm(self.bias_I, state_BLD.flatten(0, 1), self.embedding.weight.T)
        target_N = torch.where(masked_BL, sequences.history_BL.long() - 1, -100).flatten()
        return functional.cross_entropy(score_BLI, target_N, ignore_index=-100)
