"""A recurrent sequence encoder.

Legend: B histories, L positions, D embedding size.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from trainables.next_item.dropout import dropout


class GRUEncoder(nn.Module):
    """One gated recurrent layer; the state after the last real position represents the history.

    A `SequenceEncoder`, so that it stands wherever the attention layer does. Only real positions are computed.
    Histories have at least one item.

    Args:
        size: of embeddings and state.
        history_length: taken so that encoders are built alike; a recurrent layer has no use for it.
        dropout: of the embedded items.

    Source: Cho et al. 2014; Hidasi et al. 2016, §3.1 (one layer is best there); PreferDiff Table 6.
    """

    def __init__(self, size: int, history_length: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = dropout
        self.layer = nn.GRU(size, size, batch_first=True)

    def forward(self, embedded_BLD: Tensor, length_B: Tensor) -> Tensor:
        """Return the state after each history's last real position [B, D]."""
        dropped_BLD = dropout(embedded_BLD, self.dropout, self.training)
        packed = pack_padded_sequence(dropped_BLD, length_B.cpu().long(), batch_first=True, enforce_sorted=False)
        state_1BD: Tensor = self.layer(packed)[1]
        return state_1BD.squeeze(0)
