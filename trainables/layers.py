"""The layers that click-through-rate models share: embeddings by field, and the MLP.

Legend: B rows of a batch, C looked-up positions of a row (one a category, L a sequence), F embedded fields,
N numeric fields, L positions of a sequence, D embedding size, V rows of a table, W those of a batch, I items,
P pairs of fields, N also the sums of a batch, one a row and field, K the looked-up rows of all of them that count,
X inputs of an MLP, K those of them that change, H outputs of its first layer.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.fusion import fuse_linear_bn_weights

from trainables.base import CtrBatch, CtrModel, DropoutRate, Field, FieldValues, PositiveInt
from trainables.lookups import Lookup, lookup
from trainables.rowwise_adam import has_row_gradients, row_gradient
from trainables.workers import BatchNorm

Padding = Literal["masked", "summed"]
NormalizationStart = Literal["uniform", "standard"]


class _GatherRows(torch.autograd.Function):
    """`table[index]` whose backward adds rows by one sorted scatter: several times faster on a CPU than torch's."""

    @staticmethod
    def forward(ctx: Any, table_VD: Tensor, index_C: Tensor) -> Tensor:
        ctx.save_for_backward(index_C)
        ctx.rows, ctx.by_row = table_VD.shape[0], has_row_gradients(table_VD)
        return table_VD.index_select(0, index_C)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_CD: Tensor) -> tuple[Tensor, None]:
        (index_C,) = ctx.saved_tensors
        if ctx.by_row:
            row_W, grad_WD = row_sums(index_C, grad_CD)
            return row_gradient(row_W, grad_WD, ctx.rows), None
        grad_VD = grad_CD.new_zeros(ctx.rows, grad_CD.shape[1])
        return grad_VD.scatter_add_(0, index_C.unsqueeze(1).expand_as(grad_CD), grad_CD), None


class _SumRows(torch.autograd.Function):
    """Sums of a table's rows: neither the rows nor their gradients are ever laid out one by one for a whole batch."""

    @staticmethod
    def forward(ctx: Any, table_VD: Tensor, row_K: Tensor, first_N1: Tensor, sum_K: Tensor) -> Tensor:
        ctx.save_for_backward(row_K, sum_K)
        ctx.rows, ctx.by_row = table_VD.shape[0], has_row_gradients(table_VD)
        sums_ND: Tensor = torch.embedding_bag(table_VD, row_K, first_N1, mode=0, include_last_offset=True)[0]
        return sums_ND

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor, None, None, None]:
        row_K, sum_K = ctx.saved_tensors
        if ctx.by_row:
            row_W, grad_WD = row_sums(row_K, grad_ND, sum_K)
            return row_gradient(row_W, grad_WD, ctx.rows), None, None, None
        grad_KD = grad_ND.index_select(0, sum_K)
        grad_VD = grad_ND.new_zeros(ctx.rows, grad_ND.shape[1])
        return grad_VD.scatter_add_(0, row_K.unsqueeze(1).expand_as(grad_KD), grad_KD), None, None, None


def row_sums(index_C: Tensor, grad_ND: Tensor, source_C: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the rows that stand in int64 indices, ascending [W], and the sum of what belongs to each [W, D].

    To an index belongs the gradient of its place, or of its `source_C`. What belongs to a row is added up in its
    order. A bag of embeddings is the fastest sum over rows of a matrix.
    """
    sorted_C, order_C = index_C.int().sort(stable=True)
    first_C = torch.ones_like(sorted_C, dtype=torch.bool)
    torch.ne(sorted_C[1:], sorted_C[:-1], out=first_C[1:])
    first_W = first_C.nonzero().squeeze(1)
    source_C = order_C if source_C is None else source_C.index_select(0, order_C)
    return sorted_C[first_W].long(), nn.functional.embedding_bag(source_C, grad_ND, first_W, mode="sum")


def gather_rows(table_VD: Tensor, index_C: Tensor) -> Tensor:
    """Return the rows [C, D] of a table for int64 indices [C].

    A table that has row gradients gets a sparse one, of the rows that stand in the indices.
    """
    rows_CD: Tensor = _GatherRows.apply(table_VD, index_C)  # type: ignore[no-untyped-call]
    return rows_CD


class Dropout(nn.Module):
    """Zero elements with probability p while training, and scale the others by 1/(1−p).

    Takes 15 random bits an element, so that p is met to 2⁻¹⁶, from torch's global generator; torch's own dropout draws
    a Bernoulli number each, which on a CPU takes eight times as long, a third of a CTR model's training.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to every element."""
        return x * self.scale(x) if self.training and self.p else x

    def scale(self, like: Tensor) -> Tensor:
        """Return what elements are multiplied with, 0 or 1/(1−p), in the shape of `like`."""
        if self.p == 0.5:
            return _coins(like)
        words = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device).random_()
        bits = words.view(torch.int16)[: like.numel()].view(like.shape) & 0x7FFF
        return (bits >= round(self.p * 0x8000)).to(like.dtype).mul_(1 / (1 - self.p))


_EIGHT_COINS = (torch.arange(256).unsqueeze(1) >> torch.arange(8) & 1) * 2.0
"""The eight bits of each byte, as 0 or 2."""


def _coins(like: Tensor) -> Tensor:
    """Return 0 or 2 with probability ½ each: one random bit an element, eight looked up at a time."""
    words = torch.empty(-(-like.numel() // 64), dtype=torch.int64, device=like.device).random_(-(2**63), None)
    twos = _EIGHT_COINS.to(like).index_select(0, words.view(torch.uint8).int())
    return twos.view(-1)[: like.numel()].view(like.shape)


class FieldSums(nn.Module):
    """One embedding a field: a category's row, a sequence's sum over its words.

    `padding="masked"` leaves out id 0 of a sequence; `"summed"` adds its row as often as it stands there, as the
    authors' release does. All tables lie one below the other in `table_VD`, so that a batch needs one gather.

    Raises:
        ValueError: there is no field.
    """

    row_tables: ClassVar[tuple[str, ...]] = ("table_VD",)
    first_row_C: Tensor  # where the field of a position begins in the table
    masked_C: Tensor  # whether id 0 is no word there
    field_C: Tensor  # the field's number
    last_F: Tensor  # a field's last position

    def __init__(self, fields: Sequence[Field], embedding_size: int, padding: Padding = "masked") -> None:
        super().__init__()
        if not fields:
            raise ValueError("fields: no category and no sequence to embed; give one at least")
        self.fields = tuple(fields)
        self.padding = padding
        self.table_VD = nn.Parameter(torch.randn(sum(field.size for field in fields), embedding_size))
        self.has_sequences = any(field.kind == "sequence" for field in fields)
        first_rows = [sum(field.size for field in fields[:position]) for position in range(len(fields))]
        masked = [field.kind == "sequence" and padding == "masked" for field in fields]
        length_F = torch.tensor([field.length for field in fields], dtype=torch.int64)
        self._place("first_row_C", torch.tensor(first_rows, dtype=torch.int32).repeat_interleave(length_F))
        self._place("masked_C", torch.tensor(masked, dtype=torch.bool).repeat_interleave(length_F))
        self._place("field_C", torch.arange(len(fields)).repeat_interleave(length_F))
        self._place("last_F", length_F.cumsum(0) - 1)

    def forward(self, columns: Mapping[str, Tensor], lost_BF: Tensor | None = None) -> Tensor:
        """Return embeddings [B, F, D], in the order of the fields; what is lost is zero, and not looked up."""
        table_VD = self.table_VD
        if not self.has_sequences and lost_BF is None:
            index_BF = self._ids(columns) + self.first_row_C
            return gather_rows(table_VD, index_BF.flatten().long()).view(*index_BF.shape, table_VD.shape[1])
        sums_ND: Tensor = _SumRows.apply(table_VD, *self._places(columns, lost_BF))  # type: ignore[no-untyped-call]
        return sums_ND.view(-1, len(self.fields), table_VD.shape[1])

    def lookup(self, columns: Mapping[str, Tensor]) -> Lookup:
        """Prepare these columns for many uses: the sums are row after row those of `forward`, field after field."""
        row_K, first_N1, sum_K = self._places(columns)
        return lookup(row_K, sum_K, len(first_N1) - 1, len(self.table_VD))

    def _places(self, columns: Mapping[str, Tensor], lost_BF: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows that count [K], where those of each sum begin [N + 1], and the sum of each row [K]; int64."""
        id_BC = self._ids(columns)
        counts_BC = (id_BC != 0) | ~self.masked_C
        if lost_BF is not None:
            counts_BC &= ~lost_BF.index_select(1, self.field_C)
        place_K = counts_BC.flatten().nonzero().squeeze(1)
        row_K = (id_BC + self.first_row_C).flatten().index_select(0, place_K).long()
        so_far_BC = counts_BC.flatten().cumsum(0).view(counts_BC.shape)
        first_N1 = torch.cat([so_far_BC.new_zeros(1), so_far_BC.index_select(1, self.last_F).flatten()])
        sum_BC = torch.arange(len(id_BC), device=id_BC.device).unsqueeze(1) * len(self.fields) + self.field_C
        return row_K, first_N1, sum_BC.flatten().index_select(0, place_K)

    def _ids(self, columns: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([columns[field.name].view(-1, field.length) for field in self.fields], dim=1)

    def _place(self, name: str, values: Tensor) -> None:
        self.register_buffer(name, values, persistent=False)


class FieldEmbeddings(nn.Module):
    """Embeddings of categories and sequences, numbers as they are.

    The item-ID table is a parameter of its own, so that a stage can train it alone. `row_tables`, here and in other
    modules, names the parameters of which only rows are ever looked up.

    Raises:
        ValueError: not exactly one field has the role `item_id`, or no other one is embedded.
    """

    row_tables: ClassVar[tuple[str, ...]] = ("item_ID",)

    def __init__(self, fields: Sequence[Field], embedding_size: int, padding: Padding = "masked") -> None:
        super().__init__()
        self.embedded = tuple(field for field in fields if field.kind != "number")
        self.numbers = tuple(field for field in fields if field.kind == "number")
        item_fields = [position for position, field in enumerate(self.embedded) if field.role == "item_id"]
        if len(item_fields) != 1:
            raise ValueError(f"fields: {len(item_fields)} have the role item_id; a model needs exactly one")
        if len(self.embedded) == 1:
            raise ValueError("fields: nothing to embed beside the item's ID; give another category or sequence")
        self.item_field = item_fields[0]
        item = self.embedded[self.item_field]
        self.item_ID = nn.Parameter(torch.randn(item.size, embedding_size))
        self.others = FieldSums([field for field in self.embedded if field is not item], embedding_size, padding)

    def forward(self, batch: CtrBatch, lost_BF: Tensor | None = None) -> FieldValues:
        """Embed a batch: `embedded_BFD` in the order of the fields, zero where they are lost, and `numbers_BN`."""
        around_item = [self.item_field, len(self.embedded) - 1 - self.item_field]
        item_B1D = gather_rows(self.item_ID, batch.columns[self.embedded[self.item_field].name].long()).unsqueeze(1)
        if lost_BF is None:
            others_BFD: Tensor = self.others(batch.columns)
        else:
            lost_before, lost_item, lost_after = lost_BF.split([around_item[0], 1, around_item[1]], dim=1)
            others_BFD = self.others(batch.columns, torch.cat([lost_before, lost_after], dim=1))
            item_B1D = item_B1D * ~lost_item.unsqueeze(2)
        before, after = others_BFD.split(around_item, dim=1)
        numbers = [batch.columns[field.name] for field in self.numbers]
        return FieldValues(
            embedded_BFD=torch.cat([before, item_B1D, after], dim=1),
            numbers_BN=torch.stack(numbers, dim=1) if numbers else others_BFD.new_empty(len(batch), 0),
            item_field=self.item_field,
        )


class EmbeddedCtrModel(CtrModel, ABC):
    """A CTR model over `FieldEmbeddings`: a subclass adds its layers, calls `initialize`, and writes `interact`."""

    def __init__(self, fields: Sequence[Field], *, embedding_size: int, padding: Padding) -> None:
        super().__init__()
        self.fields = tuple(fields)
        self.embeddings = FieldEmbeddings(self.fields, embedding_size, padding)

    def embed(self, batch: CtrBatch, lost_BF: Tensor | None = None) -> FieldValues:
        """Gather the embeddings of a batch, those of lost fields as zeros."""
        values: FieldValues = self.embeddings(batch, lost_BF)
        return values

    @property
    def item_embedding(self) -> nn.Parameter:
        """The item-ID embeddings [I, D]."""
        return self.embeddings.item_ID

    def initialize(self, normalization_start: NormalizationStart) -> None:
        """Draw every parameter uniformly from ±0.01, as the authors' release does.

        That makes a BatchNorm's scale small and of either sign; `standard` starts it at 1, and its shift at 0.
        """
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.01, 0.01)
        if normalization_start == "standard":
            for module in self.modules():
                if isinstance(module, nn.BatchNorm1d):
                    module.reset_parameters()


class NumberFields(nn.Module):
    """Numbers as fields x·v with one learned vector v each: [B, N] → [B, N, D]."""

    def __init__(self, numbers: int, embedding_size: PositiveInt) -> None:
        super().__init__()
        self.vector_ND = nn.Parameter(torch.randn(numbers, embedding_size))

    def forward(self, numbers_BN: Tensor) -> Tensor:
        """Scale each number's vector."""
        return numbers_BN.unsqueeze(2) * self.vector_ND

    def beside(self, values: FieldValues) -> Tensor:
        """Return the embedded fields, then the numbers as fields [B, F + N, D]."""
        if not len(self.vector_ND):
            return values.embedded_BFD
        return torch.cat([values.embedded_BFD, self(values.numbers_BN)], dim=1)


class MLP(nn.Sequential):
    """Linear → BatchNorm → ReLU → Dropout for each hidden size, then one logit: [B, inputs] → [B]."""

    def __init__(self, inputs: int, hidden: Sequence[int], dropout: DropoutRate) -> None:
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(inputs, size), BatchNorm(size), nn.ReLU(), Dropout(dropout)]
            inputs = size
        super().__init__(*layers, nn.Linear(inputs, 1), nn.Flatten(0))

    def part_to_logits(self, rest_BX: Tensor, changing_K: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function from some of the inputs [B, K] to logits [B], the others staying as they are.

        `changing_K` has the positions of those inputs among the X, int64; `rest_BX` is zero there. In evaluation mode
        a BatchNorm is one affine map, which is put into the layer before it.
        """
        layers = list(self) if self.training else self._folded()
        first, others = cast(nn.Linear, layers[0]), layers[1:]
        rest_BH = first(rest_BX)
        weight_KH = first.weight.index_select(1, changing_K).T.contiguous()

        def logits(part_BK: Tensor) -> Tensor:
            hidden = torch.addmm(rest_BH, part_BK, weight_KH)
            for layer in others:
                hidden = layer(hidden)
            return hidden

        return logits

    @torch.no_grad()
    def _folded(self) -> list[nn.Module]:
        """Return the layers of evaluation mode with each BatchNorm put into the Linear before it."""
        layers: list[nn.Module] = []
        for layer in self:
            if isinstance(layer, nn.BatchNorm1d):
                layers[-1] = _with_normalization(cast(nn.Linear, layers[-1]), layer)
            elif not isinstance(layer, Dropout):
                layers.append(layer)
        return layers


def _with_normalization(linear: nn.Linear, normalization: nn.BatchNorm1d) -> nn.Linear:
    """Return both as one frozen layer: `fuse_linear_bn_eval` without its copies of modules, which take much longer."""
    mean_H, variance_H = cast(Tensor, normalization.running_mean), cast(Tensor, normalization.running_var)
    weight_HX, bias_H = fuse_linear_bn_weights(
        linear.weight, linear.bias, mean_H, variance_H, normalization.eps, normalization.weight, normalization.bias
    )
    fused = nn.Linear(linear.in_features, linear.out_features, device="meta")
    fused.weight, fused.bias = nn.Parameter(weight_HX, False), nn.Parameter(bias_H, False)
    return fused


def item_columns(values: FieldValues) -> Tensor:
    """Return the positions of the item-ID embedding among the inputs of an MLP over all fields, int64 [D]."""
    size = values.embedded_BFD.shape[2]
    return torch.arange(size, device=values.embedded_BFD.device) + values.item_field * size


def field_pairs(fields_BFD: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the second fields of all pairs i < j, each [B, P, D], in the order (0, 1), (0, 2), …."""
    first_P, second_P = torch.triu_indices(fields_BFD.shape[1], fields_BFD.shape[1], 1, device=fields_BFD.device)
    return fields_BFD.index_select(1, first_P), fields_BFD.index_select(1, second_P)


class _PairwiseInteractions(torch.autograd.Function):
    """The gradient of v_j is Σ_i v_i − v_j, two passes over the fields where autograd takes five."""

    @staticmethod
    def forward(ctx: Any, fields_BFD: Tensor) -> Tensor:
        total_BD = fields_BFD.sum(dim=1)
        ctx.save_for_backward(fields_BFD, total_BD)
        flat_BN = fields_BFD.flatten(1)
        squares_B: Tensor = total_BD.square().sum(dim=1) - torch.linalg.vecdot(flat_BN, flat_BN)
        return squares_B.mul_(0.5)

    @staticmethod
    def backward(ctx: Any, grad_B: Tensor) -> Tensor:
        saved: tuple[Tensor, Tensor] = ctx.saved_tensors
        fields_BFD, total_BD = saved
        if torch.is_grad_enabled():  # this gradient will be differentiated, which needs the sum's own history
            return (fields_BFD.sum(dim=1, keepdim=True) - fields_BFD) * grad_B[:, None, None]
        return (total_BD.unsqueeze(1) - fields_BFD).mul_(grad_B[:, None, None])


def pairwise_interactions(fields_BFD: Tensor) -> Tensor:
    """Return Σ_{i<j} ⟨v_i, v_j⟩ [B], by ½ Σ_d ((Σ_i v_id)² − Σ_i v_id²) (Rendle 2010)."""
    sums_B: Tensor = _PairwiseInteractions.apply(fields_BFD)  # type: ignore[no-untyped-call]
    return sums_B
