"""UniSRec (Hou et al. 2022) as PreferDiff's Table 3 compares with it.

Legend: I items, E text embedding size, D embedding size, X experts, B histories, L positions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.base import DropoutRate, NonNegativeFloat, PositiveFloat, PositiveInt, SequenceBatch
from trainables.next_item.adamw_trained import AdamWTrained
from trainables.next_item.dropout import dropout
from trainables.next_item.full_softmax import full_softmax_loss
from trainables.next_item.text import TextEmbedding
from trainables.next_item.transformer import TransformerEncoder


class UniSRec(AdamWTrained):
    """A sequence encoder over text embeddings that a mixture of whitening experts adapts; no item has a parameter.

    Two contrastive tasks: a history with its next item, and a history with a copy of it that lacks some items.
    States and items are compared by cosine.

    Args:
        items: number of items.
        history_length: positions of a history.
        text_IE: the items' text embeddings; divided by one number, so that their entries' mean square is one. All
            zero, they stay so.
        size: what the text embeddings are adapted to.
        dropout: of the encoder.
        heads: attention heads.
        experts: number of whitening experts.
        expert_dropout: of the text embeddings before the experts.
        temperature: τ, what cosines are divided by.
        contrast: λ, the weight of the second task. It is pretraining's; in fine-tuning the authors' program has none.
        dropped_share: how many of a history's items its copy lacks, in the mean.
        candidates: what a next item is told from: the next items of the `batch`, as in pretraining, or `all` items,
            as in fine-tuning.

    The other parameters are as in `AdamWTrained`.

    Source: Hou et al. 2022, eq. 1–5 and 7–9, inductive setting; the sequence encoder is the one of PreferDiff D.2,
    and there are no word-dropped copies, which need each item's text to be encoded twice. In both tasks rows with the
    same next item are no negatives of each other, which the authors' program (github.com/RUCAIBox/UniSRec) sees to.
    """

    def __init__(
        self,
        items: int,
        history_length: int,
        text_IE: Tensor,
        *,
        size: PositiveInt = 64,
        dropout: DropoutRate = 0.1,
        heads: PositiveInt = 2,
        experts: PositiveInt = 8,
        expert_dropout: DropoutRate = 0.2,
        temperature: PositiveFloat = 0.07,
        contrast: NonNegativeFloat = 0.1,
        dropped_share: DropoutRate = 0.2,
        candidates: Literal["batch", "all"] = "batch",
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.temperature = temperature
        self.contrast = contrast
        self.dropped_share = dropped_share
        self.candidates = candidates
        # The encoder's positions start with entries of about one, and items have to be seen beside them.
        scale = text_IE.float().square().mean().sqrt().clamp(min=torch.finfo(torch.float32).tiny)
        self.text = TextEmbedding(text_IE.float() / scale)
        self.adaptor = WhiteningExperts(text_IE.shape[1], size, experts, expert_dropout)
        self.encoder = TransformerEncoder(size, history_length, dropout, heads)

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return the loss of both tasks, averaged over the batch (eq. 9)."""
        state_BD = self._state(batch)
        if self.candidates == "all":
            item_ID = functional.normalize(self.adaptor(self.text.weight), dim=-1)
            loss = full_softmax_loss(state_BD / self.temperature, item_ID, batch.target_B - 1)
        else:
            target_BD = self.adaptor(self.text.weight[batch.target_B.long() - 1])
            loss = self._contrast(state_BD, functional.normalize(target_BD, dim=-1), batch.target_B)
        if self.contrast == 0:
            return loss
        other_BD = self._state(without_some_items(batch, self.dropped_share))
        return loss + self.contrast * self._contrast(state_BD, other_BD, batch.target_B)

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return cosines of the histories' states with all adapted items [B, I]."""
        return self._state(batch) @ functional.normalize(self.adaptor(self.text.weight), dim=-1).T

    def _state(self, batch: SequenceBatch) -> Tensor:
        """Return the histories' states, of length one [B, D]."""
        state_BD = self.encoder(self.adaptor(self.text.histories(batch)), batch.length_B)
        return functional.normalize(state_BD, dim=-1)

    def _contrast(self, state_BD: Tensor, other_BD: Tensor, target_B: Tensor) -> Tensor:
        """Tell each row's other from those of all rows; a row with the same next item is no negative."""
        logits_BB = state_BD @ other_BD.T / self.temperature
        same_BB = target_B[:, None] == target_B
        same_BB.fill_diagonal_(False)
        logits_BB = logits_BB.masked_fill(same_BB, -torch.inf)
        return functional.cross_entropy(logits_BB, torch.arange(len(state_BD)))


class WhiteningExperts(nn.Module):
    """Σ_x g_x · (e − b_x) W_x, with gates g = softmax(e W_g + ε · (softplus(e W_n) + 0.01)), ε in training alone.

    ε is standard normal. All experts see the same dropped-out embedding, so that they are one matrix product.

    Source: Hou et al. 2022, eq. 1–3; the 0.01 is from the authors' program, the paper has none.
    """

    def __init__(self, text_size: int, size: int, experts: int, dropout: float) -> None:
        super().__init__()
        self.experts = experts
        self.dropout = dropout
        self.projection = nn.Linear(text_size, experts * size, bias=False)
        nn.init.normal_(self.projection.weight, std=text_size**-0.5)
        # (e − b) W = e W − b W: one vector a expert says the same as b where W has full rank.
        self.shift = nn.Parameter(torch.zeros(experts, size))
        self.gate = nn.Linear(text_size, experts, bias=False)
        self.noise = nn.Linear(text_size, experts, bias=False)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.noise.weight)

    def forward(self, text: Tensor) -> Tensor:
        """Return adapted embeddings […, D] of text embeddings […, E]."""
        gate = self.gate(text)
        if self.training:
            gate = gate + torch.randn_like(gate) * (functional.softplus(self.noise(text)) + 0.01)
        gate = torch.softmax(gate, dim=-1)
        expert = self.projection(dropout(text, self.dropout, self.training)).unflatten(-1, (self.experts, -1))
        return torch.einsum("...x,...xd->...d", gate, expert) - gate @ self.shift


def without_some_items(batch: SequenceBatch, share: float) -> SequenceBatch:
    """Drop each item of the histories with probability `share`, but never all; what is left moves together."""
    position_L = torch.arange(batch.history_BL.shape[1])
    real_BL = position_L < batch.length_B.unsqueeze(1)
    draw_BL = torch.rand(batch.history_BL.shape).masked_fill(~real_BL, -1)
    kept_BL = real_BL & ((draw_BL >= share) | (draw_BL == draw_BL.amax(1, keepdim=True)))
    order_BL = torch.argsort((~kept_BL).int(), dim=1, stable=True)
    history_BL = (batch.history_BL * kept_BL).gather(1, order_BL)
    return replace(batch, history_BL=history_BL, length_B=kept_BL.sum(1).to(batch.length_B.dtype))
