"""The network that restores the corrupted fields of a sample, around any click-through-rate backbone.

A sample is the set of its fields and its label, each a chain of its own under a discrete diffusion. The backbone scores
the corrupted sample; what it sees of the corruption is added to its embedded fields, and vanishes where all fields are
clean, the label alone is hidden, and t = 0. There the network is the backbone as it is: its logit denoises the label.

Legend: B rows of a batch, F embedded fields, N numeric fields, P = F + N predicted fields, D embedding size, H numbers
that the backbone's output layers read, X conditions, K rows of which a field is corrupted, V values of a field,
C sampled values, M words, L positions of a sequence, W bins of a number, T steps, Z lost fields of all rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812
from annotated_types import Ge
from torch import Tensor, nn

from trainables.base import CtrBatch, FieldValues, RowSource
from trainables.ctr.field_losses import (
    LEFT_OUT,
    category_words,
    directions,
    full_softmax_loss,
    sampled_softmax_loss,
    sequence_words,
)
from trainables.ctr.field_rows import FieldRows, number_bins, value_shares
from trainables.diffusion.discrete import DiscreteDiffusion
from trainables.layers import MLP, EmbeddedCtrModel

Weighting = Literal["equal", "bound"]
NumberBins = Annotated[int, Ge(2)]
TIME_WAVES = 4


@dataclass(frozen=True)
class NoisySample:
    """Rows of which some fields are corrupted.

    `lost_BP` tells which; what `batch` holds there is drawn anew, or, under masks, not looked at. `shown_B` tells whose
    labels are visible, `time_B` is int64, 0 … T.
    """

    batch: CtrBatch
    lost_BP: Tensor
    shown_B: Tensor
    time_B: Tensor


class FieldDenoiser(nn.Module):
    """p(x_0 | x_t): a prediction for each field, and the backbone's logit for the label.

    The heads read what the output layer of each MLP of the backbone reads, and the sum of the embedded fields (of FM
    and AFM, which have no MLP, that sum alone). A field's prediction is a vector, compared with the embeddings of
    its values: by inner product and a bias of each value where there are at most `full_below` values; otherwise by the
    cosine over a temperature, with a softmax over values sampled from the batch. Numbers are predicted by bins of
    equal numbers of rows. A sequence is a set of words, corrupted as a whole. The label is always hidden, not redrawn,
    as a label that nobody knows has to be scored; other fields follow the process.

    Args:
        backbone: the model; its embeddings are the values' too.
        process: the forward process of every field.
        full_below: the largest vocabulary with a softmax over all values.
        negatives: sampled values of a larger one, the same for all rows of a batch.
        temperature: of the cosine.
        frequency_correction: whether sampled logits are lowered by the logarithm of their frequency (see
            `sampled_softmax_loss`).
        number_bins: bins of a numeric field, two at least.
        weighting: a corrupted field counts as much at every t (`equal`), or as in the likelihood's `bound`, by
            T·(ᾱ_{t−1} − ᾱ_t)/(1 − ᾱ_t) (Austin et al. 2021, §3.4 for masks).
        label: whether the label takes part; without it, it is always hidden, and the backbone's logit is not trained.
        label_weight: of the label's loss; the fields' mean loss has weight 1.

    Raises:
        ValueError: there are fewer than two bins.
    """

    def __init__(
        self,
        backbone: EmbeddedCtrModel,
        process: DiscreteDiffusion,
        *,
        full_below: int = 256,
        negatives: int = 128,
        temperature: float = 0.1,
        frequency_correction: bool = False,
        number_bins: NumberBins = 10,
        weighting: Weighting = "equal",
        label: bool = True,
        label_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if number_bins < 2:  # one bin has no edge, of which a corrupted number is drawn, and nothing to predict
            raise ValueError(f"number_bins: {number_bins} is too few to tell numbers apart; give two at least")
        self.backbone, self.process = backbone, process
        self.fields, self.numbers = backbone.embeddings.embedded, backbone.embeddings.numbers
        self.full_below, self.negatives, self.temperature = full_below, negatives, temperature
        self.frequency_correction, self.weighting = frequency_correction, weighting
        self.label, self.label_weight = label, label_weight
        self.rows = FieldRows(backbone.embeddings)
        self._outputs = tuple(cast(nn.Linear, module[-2]) for module in backbone.modules() if isinstance(module, MLP))
        size = backbone.item_embedding.shape[1]
        predicted = len(self.fields) + len(self.numbers)
        inputs = size + sum(layer.in_features for layer in self._outputs)
        self.heads = nn.Linear(inputs, predicted * size)
        self.conditions = nn.Linear(2 + TIME_WAVES + predicted, len(self.fields) * size, bias=False)
        nn.init.uniform_(self.conditions.weight, -0.01, 0.01)
        self.hidden_number_N = nn.Parameter(torch.zeros(len(self.numbers)))
        self.bin_NWD = nn.Parameter(0.01 * torch.randn(len(self.numbers), number_bins, size))
        self.bin_bias_NW = nn.Parameter(torch.zeros(len(self.numbers), number_bins))
        self.value_bias = nn.ParameterList(
            nn.Parameter(torch.zeros(field.size)) if self._is_full(position) else nn.Parameter(torch.zeros(0))
            for position, field in enumerate(self.fields)
        )
        self.edge_NW: Tensor
        self.register_buffer("edge_NW", torch.linspace(0, 1, number_bins + 1)[1:-1].repeat(len(self.numbers), 1))
        for position, field in enumerate(self.fields):
            share_V = torch.full((field.size,), 1 / field.size) if self._needs_shares(position) else torch.zeros(0)
            self.register_buffer(f"share_{position}", share_V)

    def prepare(self, rows: RowSource, *, seed: int) -> None:
        """Take the bins of numbers, and the frequencies of values where they are needed, from the training rows."""
        if self.numbers:
            bins = self.edge_NW.shape[1] + 1
            self.edge_NW.copy_(number_bins(self.numbers, rows, bins, seed))
        counted = [position for position in range(len(self.fields)) if self._needs_shares(position)]
        for position, share_V in zip(
            counted, value_shares(tuple(self.fields[p] for p in counted), rows) if counted else (), strict=True
        ):
            self.get_buffer(f"share_{position}").copy_(share_V)

    def corrupted(self, batch: CtrBatch) -> NoisySample:
        """Draw a time for each row and corrupt its fields and its label; a label that is NaN is hidden at any time."""
        rows, predicted = len(batch), len(self.fields) + len(self.numbers)
        time_B = torch.randint(1, self.process.steps + 1, (rows,), device=batch.label_B.device)
        lost_B1 = self.process.lost(time_B, predicted + 1)
        lost_BP, label_lost_B = lost_B1[:, :-1], lost_B1[:, -1]
        shown_B = ~label_lost_B & ~batch.label_B.isnan() if self.label else torch.zeros_like(label_lost_B)
        sample = NoisySample(batch, lost_BP, shown_B, time_B)
        return sample if self.process.corruption == "mask" else self.redrawn(sample)

    def redrawn(self, sample: NoisySample) -> NoisySample:
        """Replace what is lost by even draws: of a field's values, of words other than padding, of bins' edges."""
        columns = dict(sample.batch.columns)
        for position, field in enumerate(self.fields):
            word, lost_B = columns[field.name], sample.lost_BP[:, position]
            if field.kind == "sequence":
                word_drawn = torch.randint_like(word, 1, max(field.size, 2))
                columns[field.name] = torch.where(lost_B.unsqueeze(1) & (word != 0), word_drawn, word)
            else:
                columns[field.name] = torch.where(lost_B, torch.randint_like(word, field.size), word)
        for index, field in enumerate(self.numbers):
            lost_B = sample.lost_BP[:, len(self.fields) + index]
            edge_W = self.edge_NW[index]
            edge_B = edge_W[torch.randint(len(edge_W), lost_B.shape, device=edge_W.device)]
            columns[field.name] = torch.where(lost_B, edge_B, columns[field.name])
        return replace(sample, batch=CtrBatch(columns, sample.batch.label_B))

    def forward(self, sample: NoisySample) -> tuple[Tensor, Tensor]:
        """Return the label's logits [B] and the fields' predicted vectors [B, P, D]."""
        values = self.conditioned(sample)
        logits_B, hidden_BH = self._interact(values)
        predicted_BX: Tensor = self.heads(torch.cat([hidden_BH, values.embedded_BFD.sum(dim=1)], dim=1))
        return logits_B, predicted_BX.view(len(logits_B), -1, values.embedded_BFD.shape[2])

    def conditioned(self, sample: NoisySample) -> FieldValues:
        """Return what the backbone sees of a sample: its values without the lost ones, and the conditions added."""
        lost_BF, lost_BN = sample.lost_BP.split([len(self.fields), len(self.numbers)], dim=1)
        masks = self.process.corruption == "mask"
        values = self.backbone.embed(sample.batch, lost_BF if masks else None)
        embedded_BFD, numbers_BN = values.embedded_BFD, values.numbers_BN
        label_B = sample.batch.label_B.nan_to_num()
        shown_B2 = torch.stack([1 - label_B, label_B], dim=1) * sample.shown_B.unsqueeze(1)
        wave_T = torch.arange(1, TIME_WAVES + 1, device=label_B.device) * (math.pi / 2 / self.process.steps)
        waves_BT = torch.sin(sample.time_B.unsqueeze(1) * wave_T)
        added_BX: Tensor = self.conditions(torch.cat([shown_B2, waves_BT, sample.lost_BP], dim=1))
        if masks:
            numbers_BN = torch.where(lost_BN, self.hidden_number_N, numbers_BN)
        return replace(values, embedded_BFD=embedded_BFD + added_BX.view_as(embedded_BFD), numbers_BN=numbers_BN)

    def losses(self, batch: CtrBatch) -> dict[str, Tensor]:
        """Return the mean cross-entropy of restoring a corrupted field, and that of restoring the label."""
        sample = self.corrupted(batch)
        logits_B, predicted_BPD = self(sample)
        weight_B = self._weights(sample.time_B)
        field_Z, row_Z = sample.lost_BP.T.nonzero().unbind(1)
        count_P = sample.lost_BP.sum(dim=0)
        predicted_ZD = predicted_BPD.flatten(0, 1).index_select(0, row_Z * predicted_BPD.shape[1] + field_Z)
        loss_Z = self._field_losses(batch, row_Z, predicted_ZD, count_P.tolist())
        share_Z = 1 / count_P[field_Z] if weight_B is None else weight_B[row_Z] / len(batch)
        found = {"fields": torch.dot(loss_Z, share_Z) / len(count_P)}
        if self.label:
            row_K = (~sample.shown_B & ~batch.label_B.isnan()).nonzero().squeeze(1)
            loss_K = F.binary_cross_entropy_with_logits(logits_B[row_K], batch.label_B[row_K], reduction="none")
            total = loss_K.sum() / max(len(row_K), 1) if weight_B is None else (loss_K @ weight_B[row_K]) / len(batch)
            found["label"] = self.label_weight * total
        return found

    @torch.no_grad()
    def probabilities(self, sample: NoisySample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the probability of a positive label [B], and by field those of all values [B, V] or bins [B, W].

        Of a sequence, the words' shares of its set.
        """
        logits_B, predicted_BPD = self(sample)
        found = {}
        for position, field in enumerate(self.fields):
            logits_BV = self._all_logits(position, predicted_BPD[:, position])
            if field.kind == "sequence":
                logits_BV = F.pad(logits_BV[:, 1:], (1, 0), value=LEFT_OUT)
            found[field.name] = logits_BV.softmax(dim=1)
        for index, field in enumerate(self.numbers):
            found[field.name] = self._bin_logits(index, predicted_BPD[:, len(self.fields) + index]).softmax(dim=1)
        return logits_B.sigmoid(), found

    @torch.no_grad()
    def generate(self, rows: int) -> CtrBatch:
        """Return rows drawn by the reverse process from all fields lost, the label too (Austin et al. 2021, eq. 4).

        At each step a lost value is restored with the posterior's probability, drawn from its prediction. Fields are
        drawn apart from each other: a table that says which values belong to an item is not consulted.

        Raises:
            ValueError: a field is a sequence or a number, which have no single value to draw.
        """
        others = [field.name for field in (*self.fields, *self.numbers) if field.kind != "category"]
        if others:
            raise ValueError(f"fields: {', '.join(others)}: only categories can be generated")
        device = self.heads.weight.device
        columns = {f.name: torch.randint(f.size, (rows,), dtype=torch.int32, device=device) for f in self.fields}
        label_B = torch.zeros(rows, device=device)
        lost_BP = torch.ones(rows, len(self.fields), dtype=torch.bool, device=device)
        shown_B = torch.zeros(rows, dtype=torch.bool, device=device)
        self.eval()
        for time in range(self.process.steps, 0, -1):
            time_B = torch.full((rows,), time, device=device)
            positive_B, values = self.probabilities(NoisySample(CtrBatch(columns, label_B), lost_BP, shown_B, time_B))
            restored_B1 = torch.rand(rows, len(self.fields) + 1, device=device) < self.process.restored(time)
            restored_BP = lost_BP & restored_B1[:, :-1]
            for position, field in enumerate(self.fields):
                drawn_B = torch.multinomial(values[field.name], 1).squeeze(1).int()
                columns = columns | {field.name: torch.where(restored_BP[:, position], drawn_B, columns[field.name])}
            label_restored_B = ~shown_B & restored_B1[:, -1]
            label_B = torch.where(label_restored_B, (torch.rand(rows, device=device) < positive_B).float(), label_B)
            lost_BP, shown_B = lost_BP & ~restored_BP, shown_B | label_restored_B
        return CtrBatch(columns, label_B)

    def _interact(self, values: FieldValues) -> tuple[Tensor, Tensor]:
        """Return the backbone's logits, and what its output layers read [B, H]."""
        seen: list[Tensor] = []
        hooks = [layer.register_forward_pre_hook(lambda _, read: seen.append(read[0])) for layer in self._outputs]
        try:
            logits_B = self.backbone.interact(values)
        finally:
            for hook in hooks:
                hook.remove()
        return logits_B, torch.cat(seen, dim=1) if seen else logits_B.new_empty(len(logits_B), 0)

    def _field_losses(self, batch: CtrBatch, row_Z: Tensor, predicted_ZD: Tensor, counts: list[int]) -> Tensor:
        """Return the loss of restoring each lost field [Z], field after field, of which `counts` are lost."""
        predicted = predicted_ZD.split(counts)
        words_of, sampled, request = {}, {}, {}
        row_K_of = row_Z.split(counts)
        for position, field in enumerate(self.fields):
            word_B = batch.columns[field.name]
            lost = word_B.index_select(0, row_K_of[position])
            words_of[position] = sequence_words(lost) if field.kind == "sequence" else category_words(lost)
            if self._is_full(position):
                request[position] = torch.arange(field.size, device=word_B.device)
            else:
                sampled[position] = self._sampled(position, word_B)
                request[position] = torch.cat([sampled[position], words_of[position].word_M])
        rows_of = self.rows.gather(request)
        direction_of = directions({position: predicted[position] for position in sampled}, 1 / self.temperature)
        rows_of |= directions({position: rows_of[position] for position in sampled})
        found = []
        for position, words in words_of.items():
            if self._is_full(position):
                found.append(full_softmax_loss(self._logits(position, predicted[position], rows_of[position]), words))
                continue
            sampled_C = sampled[position]
            embedded_CD, own_MD = rows_of[position].split([len(sampled_C), len(words.word_M)])
            share_C = self.get_buffer(f"share_{position}")[sampled_C].log() if self.frequency_correction else None
            found.append(sampled_softmax_loss(direction_of[position], own_MD, words, embedded_CD, sampled_C, share_C))
        for index, field in enumerate(self.numbers):
            position = len(self.fields) + index
            bin_K = torch.bucketize(batch.columns[field.name][row_K_of[position]].contiguous(), self.edge_NW[index])
            logits_KW = self._bin_logits(index, predicted[position])
            found.append(F.cross_entropy(logits_KW, bin_K, reduction="none"))
        return torch.cat(found)

    def _sampled(self, position: int, word_B: Tensor) -> Tensor:
        """Return values of a field drawn from the words of the batch, [B] or [B, L], ascending, int64 [C]."""
        word = word_B[word_B != 0] if self.fields[position].kind == "sequence" else word_B
        if not len(word):
            return word.long()
        drawn_C = word[torch.randint(len(word), (self.negatives,), device=word.device)].long()
        return drawn_C.sort().values

    def _logits(self, position: int, predicted_KD: Tensor, embedded_VD: Tensor) -> Tensor:
        """Return the logits of all values of a small field [K, V]; padding has none."""
        logits_KV = torch.addmm(self.value_bias[position], predicted_KD, embedded_VD.T)
        if self.fields[position].kind == "sequence":
            logits_KV = F.pad(logits_KV[:, 1:], (1, 0), value=LEFT_OUT)
        return logits_KV

    def _all_logits(self, position: int, predicted_BD: Tensor) -> Tensor:
        """Return the logits of all values of any field [B, V]."""
        value_V = torch.arange(self.fields[position].size, device=predicted_BD.device)
        embedded_VD = self.rows.gather({position: value_V})[position]
        if self._is_full(position):
            return self._logits(position, predicted_BD, embedded_VD)
        return F.normalize(predicted_BD, dim=1) @ F.normalize(embedded_VD, dim=1).T / self.temperature

    def _bin_logits(self, index: int, predicted_KD: Tensor) -> Tensor:
        return torch.addmm(self.bin_bias_NW[index], predicted_KD, self.bin_NWD[index].T)

    def _weights(self, time_B: Tensor) -> Tensor | None:
        """Return how much a row counts, float32 [B]; None where all count the same."""
        if self.weighting == "equal":
            return None
        kept_T1 = self.process.kept_T1
        weight_T = self.process.steps * (kept_T1[:-1] - kept_T1[1:]) / (1 - kept_T1[1:]).clamp(min=1e-12)
        return weight_T.float()[time_B - 1]

    def _is_full(self, position: int) -> bool:
        return self.fields[position].size <= self.full_below

    def _needs_shares(self, position: int) -> bool:
        return self.frequency_correction and not self._is_full(position)
