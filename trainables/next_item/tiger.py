"""TIGER (Rajput et al. 2023) as PreferDiff's Table 1 compares with it: a T5 that writes the next item's semantic ID.

Legend: B histories, L positions, I items, E text embedding size, C codes of an item, K codes of a codebook, W beams,
V tokens, S token positions.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trainables.base import DropoutRate, PositiveInt, SequenceBatch, SequenceSource
from trainables.next_item.adamw_trained import AdamWTrained
from trainables.next_item.semantic_ids import prefix_tables, semantic_ids
from trainables.next_item.user_embedding import users_of

PADDING = 0
"""The token that pads histories and starts the decoder; code k of position c is token 1 + c·K + k."""

USER_TOKENS = 2000
"""Tokens that users share, after those of codes: user u has number u modulo this (Rajput et al. 2023, §4)."""

HISTORIES_AT_ONCE = 32
"""Histories of a beam search: keys and values that 20 beams keep of 10 items are 10 MB a history."""


class TIGER(AdamWTrained):
    """Items become codes by residual quantization of their text; a T5 reads a history's codes and writes the next's.

    A beam search over the codes of real items gives the best items' log-likelihoods; all others score −∞. Where every
    user is in training, a token of the user stands before the history, one of 2,000; where users are split, none does.

    Args:
        items: number of items.
        history_length: positions of a history.
        text_IE: the items' text embeddings.
        users: number of users, of which counts only that there are some; None where batches do not tell them.
        size: width of the T5.
        dropout: of the T5.
        layers: of encoder and decoder, each.
        heads: attention heads.
        head_size: of each head.
        feed_forward_size: of each feed-forward layer.
        codebooks: quantization levels; a further code tells equal items apart.
        codebook_size: K, a power of two.
        beams: W, how many items a search keeps.

    The other parameters are as in `AdamWTrained`.

    Source: Rajput et al. 2023, §3 and §4 (4 layers, 6 heads of 64, width 128, feed-forward 1,024, 3 codebooks of
    256); PreferDiff D.2 (T5 from transformers, quantized by FAISS).

    Raises:
        ValueError: the packages of the extra `text` are missing, or the codebooks do not fit the items.
    """

    def __init__(
        self,
        items: int,
        history_length: int,
        text_IE: Tensor,
        users: int | None = None,
        *,
        size: PositiveInt = 128,
        dropout: DropoutRate = 0.1,
        layers: PositiveInt = 4,
        heads: PositiveInt = 6,
        head_size: PositiveInt = 64,
        feed_forward_size: PositiveInt = 1024,
        codebooks: PositiveInt = 3,
        codebook_size: PositiveInt = 256,
        beams: PositiveInt = 20,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.codebooks = codebooks
        self.codebook_size = codebook_size
        self.beams = beams
        self.first_user_token = None if users is None else 1 + (codebooks + 1) * codebook_size
        self.text_IE = text_IE
        self.code_IC: Tensor
        self.register_buffer("code_IC", torch.zeros(items, codebooks + 1, dtype=torch.int64))
        self._tables: list[Tensor] = []
        self.register_load_state_dict_post_hook(_forget_tables)  # type: ignore[no-untyped-call]
        self.t5: Any = _small_t5(
            vocab_size=1 + (codebooks + 1) * codebook_size + (0 if users is None else USER_TOKENS),
            d_model=size,
            d_kv=head_size,
            d_ff=feed_forward_size,
            num_layers=layers,
            num_decoder_layers=layers,
            num_heads=heads,
            dropout_rate=dropout,
        )

        names = inspect.signature(self.t5.forward).parameters
        self._cache_argument = "cache" if "cache" in names else "past_key_values"  # the older name

    def prepare(self, train: SequenceSource) -> None:
        """Quantize the items' text; the data that it trains on are not needed."""
        seed = int(torch.randint(2**31, ()))
        self.code_IC.copy_(semantic_ids(self.text_IE, self.codebooks, self.codebook_size, seed))
        self._tables.clear()

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return the mean cross-entropy of the targets' codes, each given those before it."""
        history_BS, real_BS = self._history_tokens(batch)
        target_BC = self._tokens(batch.target_B)
        loss: Tensor = self.t5(input_ids=history_BS, attention_mask=real_BS, labels=target_BC).loss
        return loss

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return the log-likelihoods of the items that the beam search ends with, −∞ for all others [B, I]."""
        parts = zip(*(tokens_BS.split(HISTORIES_AT_ONCE) for tokens_BS in self._history_tokens(batch)), strict=True)
        return torch.cat([self._beam_search(history_BS, real_BS) for history_BS, real_BS in parts])

    def _beam_search(self, history_BS: Tensor, real_BS: Tensor) -> Tensor:
        """Return what `rank_scores` does; what attention needs of tokens is computed once, not for every beam."""
        hidden_BSD = self.t5.encoder(input_ids=history_BS, attention_mask=real_BS).last_hidden_state
        prefix_BW = torch.zeros(len(history_BS), 1, dtype=torch.int64)
        score_BW = torch.zeros(len(history_BS), 1)
        token_BW = torch.full((len(history_BS), 1), PADDING)
        attended = _attention_cache()
        for position, table_PK in enumerate(self._prefix_tables()):
            code_BWK = self._code_likelihoods(hidden_BSD, real_BS, token_BW, position, attended)
            next_BWK = table_PK[prefix_BW]
            total_BWK = (score_BW.unsqueeze(-1) + code_BWK).masked_fill(next_BWK < 0, -torch.inf)
            kept = min(self.beams, total_BWK[0].numel())
            score_BW, index_BW = total_BWK.flatten(1).topk(kept, dim=1)
            prefix_BW = next_BWK.flatten(1).gather(1, index_BW).clamp(min=0)
            _follow_beams(attended, index_BW // self.codebook_size, token_BW.shape[1])
            token_BW = 1 + position * self.codebook_size + index_BW % self.codebook_size
        scores_BI = torch.full((len(history_BS), len(self.code_IC)), -torch.inf)
        return scores_BI.scatter_reduce(1, prefix_BW, score_BW, "amax")

    def _code_likelihoods(
        self, hidden_BSD: Tensor, real_BS: Tensor, token_BW: Tensor, position: int, attended: Any
    ) -> Tensor:
        """Return the log-likelihoods of this position's codes after each beam's last token [B, W, K]."""
        beams = token_BW.shape[1]
        logits = self.t5(
            encoder_outputs=(hidden_BSD.repeat_interleave(beams, 0),),
            attention_mask=real_BS.repeat_interleave(beams, 0),
            decoder_input_ids=token_BW.view(-1, 1),
            use_cache=True,
            **{self._cache_argument: attended},
        ).logits[:, -1]
        first = 1 + position * self.codebook_size
        code = functional.log_softmax(logits, dim=-1)[:, first : first + self.codebook_size]
        return code.view(len(token_BW), beams, -1)

    def _tokens(self, item: Tensor) -> Tensor:
        """Return the tokens of item ids from 1 on [..., C]."""
        offset_C = 1 + torch.arange(self.code_IC.shape[1]) * self.codebook_size
        return self.code_IC[(item.long() - 1).clamp(min=0)] + offset_C

    def _history_tokens(self, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """Return the histories' tokens, the user's before them, padded, and which are real, int64 [B, S] each."""
        real_BL = batch.real_positions()
        token_BLC = torch.where(real_BL.unsqueeze(-1), self._tokens(batch.history_BL), PADDING)
        token_BS, real_BS = token_BLC.flatten(1), real_BL.repeat_interleave(self.code_IC.shape[1], 1).long()
        if self.first_user_token is None:
            return token_BS, real_BS
        user_B1 = self.first_user_token + users_of(batch).unsqueeze(1) % USER_TOKENS
        return torch.cat([user_B1, token_BS], dim=1), torch.cat([torch.ones_like(user_B1), real_BS], dim=1)

    def _prefix_tables(self) -> list[Tensor]:
        if not self._tables:
            self._tables.extend(prefix_tables(self.code_IC, self.codebook_size))
        return self._tables


def _small_t5(**settings: Any) -> Any:
    try:
        from transformers import T5Config, T5ForConditionalGeneration
    except ImportError:
        raise ValueError("TIGER needs transformers; pip install 'diffbench[text]'") from None
    tokens: dict[str, Any] = {"pad_token_id": PADDING, "decoder_start_token_id": PADDING, "eos_token_id": None}
    return T5ForConditionalGeneration(T5Config(use_cache=False, **tokens, **settings))


def _attention_cache() -> Any:
    """Return an empty cache of the keys and values of what was written, and of the history."""
    from transformers import DynamicCache, EncoderDecoderCache

    return EncoderDecoderCache(DynamicCache(), DynamicCache())


def _follow_beams(attended: Any, beam_BW: Tensor, beams_before: int) -> None:
    """Bring a cache of `beams_before` beams a history to the beams that are kept, each from the one it goes on from."""
    row_N = (torch.arange(len(beam_BW)).unsqueeze(1) * beams_before + beam_BW).flatten()
    attended.self_attention_cache.reorder_cache(row_N)
    if beam_BW.shape[1] != beams_before:  # all beams of a history see the same history
        attended.cross_attention_cache.reorder_cache(row_N)


def _forget_tables(model: TIGER, _: Any) -> None:
    model._tables.clear()
