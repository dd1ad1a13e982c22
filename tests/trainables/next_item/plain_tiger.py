"""TIGER's beam search with all that a beam has written decoded anew for each code: what the cached one must equal.

Legend: B histories, W beams, K codes of a codebook, S token positions, D width, P prefixes, I items.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.base import SequenceBatch
from trainables.next_item.tiger import PADDING, TIGER


class PlainTIGER(TIGER):
    """The T5 without a cache, for all histories at once."""

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        history_BS, real_BS = self._history_tokens(batch)
        hidden_BSD = self.t5.encoder(input_ids=history_BS, attention_mask=real_BS).last_hidden_state
        prefix_BW = torch.zeros(len(batch), 1, dtype=torch.int64)
        score_BW = torch.zeros(len(batch), 1)
        written_BWS = torch.full((len(batch), 1, 1), PADDING)
        for position, table_PK in enumerate(self._prefix_tables()):
            code_BWK = self._likelihoods_after(written_BWS, hidden_BSD, real_BS, position)
            next_BWK = table_PK[prefix_BW]
            total_BWK = (score_BW.unsqueeze(-1) + code_BWK).masked_fill(next_BWK < 0, -torch.inf)
            score_BW, index_BW = total_BWK.flatten(1).topk(min(self.beams, total_BWK[0].numel()), dim=1)
            prefix_BW = next_BWK.flatten(1).gather(1, index_BW).clamp(min=0)
            beam_BW = index_BW // self.codebook_size
            before_BWS = written_BWS.gather(1, beam_BW.unsqueeze(-1).expand(-1, -1, written_BWS.shape[-1]))
            token_BW = 1 + position * self.codebook_size + index_BW % self.codebook_size
            written_BWS = torch.cat([before_BWS, token_BW.unsqueeze(-1)], dim=-1)
        scores_BI = torch.full((len(batch), len(self.code_IC)), -torch.inf)
        return scores_BI.scatter_reduce(1, prefix_BW, score_BW, "amax")

    def _likelihoods_after(self, written_BWS: Tensor, hidden_BSD: Tensor, real_BS: Tensor, position: int) -> Tensor:
        """Return the log-likelihoods of this position's codes after all that each beam has written [B, W, K]."""
        beams = written_BWS.shape[1]
        logits = self.t5(
            encoder_outputs=(hidden_BSD.repeat_interleave(beams, 0),),
            attention_mask=real_BS.repeat_interleave(beams, 0),
            decoder_input_ids=written_BWS.flatten(0, 1),
        ).logits[:, -1]
        first = 1 + position * self.codebook_size
        code = torch.log_softmax(logits, dim=-1)[:, first : first + self.codebook_size]
        return code.view(len(written_BWS), beams, -1)
