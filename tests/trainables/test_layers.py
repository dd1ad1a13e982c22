from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.benchmarks.bench_field_sums import plain_sums
from tests.trainables.small_rows import FIELDS, small_rows
from trainables.base import Field
from trainables.layers import (
    MLP,
    Dropout,
    FieldEmbeddings,
    FieldSums,
    field_pairs,
    gather_rows,
    pairwise_interactions,
    row_sums,
)
from trainables.lookups import looked_up


def test_gathered_rows_and_their_gradient_are_those_of_indexing() -> None:
    table_VD = torch.randn(5, 3, requires_grad=True)
    index_C = torch.tensor([4, 0, 4, 2, 4])
    weight_CD = torch.randn(5, 3)
    (ours,) = torch.autograd.grad((gather_rows(table_VD, index_C) * weight_CD).sum(), table_VD)
    (theirs,) = torch.autograd.grad((table_VD[index_C] * weight_CD).sum(), table_VD)
    assert torch.equal(gather_rows(table_VD, index_C), table_VD[index_C])
    torch.testing.assert_close(ours, theirs)


def test_row_sums_are_those_of_a_scatter_bit_for_bit() -> None:
    index_C = torch.randint(0, 50, (700,))
    grad_CD = torch.randn(700, 16)
    row_W, grad_WD = row_sums(index_C, grad_CD)
    everywhere_VD = torch.zeros(50, 16).scatter_add_(0, index_C.unsqueeze(1).expand_as(grad_CD), grad_CD)
    assert row_W.tolist() == sorted(set(index_C.tolist()))
    assert torch.equal(grad_WD, everywhere_VD[row_W])


@pytest.mark.parametrize("padding", ["masked", "summed"])
def test_a_sequence_is_the_sum_of_its_words(padding: str) -> None:
    category, sequence = Field("year", "category", 4, "item"), Field("title", "sequence", 7, "item", 3)
    sums = FieldSums([category, sequence], 2, padding)  # type: ignore[arg-type]
    columns = {"year": torch.tensor([3, 1]), "title": torch.tensor([[5, 2, 0], [6, 0, 0]])}
    year_VD, title_VD = sums.table_VD.split([4, 7])
    pad_D = title_VD[0] if padding == "summed" else torch.zeros(2)
    expected = [[year_VD[3], title_VD[5] + title_VD[2] + pad_D], [year_VD[1], title_VD[6] + 2 * pad_D]]
    torch.testing.assert_close(sums(columns), torch.stack([torch.stack(row) for row in expected]))


@pytest.mark.parametrize("by_row", [False, True])
def test_sums_and_gradients_are_those_of_rows_laid_out(by_row: bool) -> None:
    sums = FieldSums([field for field in FIELDS if field.kind != "number"], 5)
    columns = small_rows(300).batch.columns
    weight_BFD = torch.randn(300, len(sums.fields), 5)
    plain_BFD = plain_sums(sums, columns)
    (plain_VD,) = torch.autograd.grad((plain_BFD * weight_BFD).sum(), sums.table_VD)
    sums.table_VD.has_row_gradients = by_row  # type: ignore[attr-defined]
    found_BFD = sums(columns)
    (found_VD,) = torch.autograd.grad((found_BFD * weight_BFD).sum(), sums.table_VD)
    assert found_VD.is_sparse == by_row
    torch.testing.assert_close(found_BFD, plain_BFD)
    torch.testing.assert_close(found_VD.to_dense(), plain_VD)


def test_what_is_lost_is_zero_and_gets_no_gradient() -> None:
    embeddings, batch = FieldEmbeddings(FIELDS, 4), small_rows(50).batch
    lost_BF = torch.rand(50, len(embeddings.embedded)) < 0.5
    weight_BFD = torch.randn(50, len(embeddings.embedded), 4)
    plain_BFD = embeddings(batch).embedded_BFD * ~lost_BF.unsqueeze(2)
    found_BFD = embeddings(batch, lost_BF).embedded_BFD
    torch.testing.assert_close(found_BFD, plain_BFD)
    tables = [embeddings.item_ID, embeddings.others.table_VD]
    for found, plain in zip(
        *(torch.autograd.grad((x * weight_BFD).sum(), tables) for x in (found_BFD, plain_BFD)), strict=True
    ):
        torch.testing.assert_close(found, plain)


def test_a_fields_places_are_no_part_of_a_checkpoint() -> None:
    assert list(FieldSums([Field("title", "sequence", 7, "item", 3)], 2).state_dict()) == ["table_VD"]


@pytest.mark.parametrize("padding", ["masked", "summed"])
def test_prepared_columns_give_the_same_sums_and_gradients(padding: str) -> None:
    fields = [Field("year", "category", 4, "item"), Field("title", "sequence", 7, "item", 3)]
    sums = FieldSums(fields, 2, padding)  # type: ignore[arg-type]
    columns = {"year": torch.tensor([3, 1, 3]), "title": torch.tensor([[5, 2, 0], [0, 0, 0], [6, 5, 5]])}
    weight_MFD = torch.randn(3, 2, 2)
    places = sums.lookup(columns)
    once, again = sums(columns), looked_up(sums.table_VD, places).view(3, 2, 2)
    torch.testing.assert_close(again, once)
    gradients = [torch.autograd.grad((x * weight_MFD).sum(), sums.table_VD)[0] for x in (once, again)]
    torch.testing.assert_close(gradients[1], gradients[0])


def test_in_evaluation_mode_normalization_lies_in_the_layer_before() -> None:
    mlp = MLP(6, (5, 4), 0.5)
    for layer in mlp:
        if isinstance(layer, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(layer.weight)
            torch.nn.init.normal_(layer.bias)
    mlp(torch.randn(64, 6))
    mlp.eval()
    inputs_BX, changing_K = torch.randn(3, 6), torch.tensor([1, 4])
    rest_BX = inputs_BX.index_fill(1, changing_K, 0.0)
    logits = mlp.part_to_logits(rest_BX, changing_K)(inputs_BX[:, changing_K])
    torch.testing.assert_close(logits, mlp(inputs_BX))
    assert all(parameter.requires_grad for parameter in mlp.parameters())


def test_a_batch_without_rows_has_no_embeddings() -> None:
    fields = [field for field in FIELDS if field.kind != "number"]
    columns = {name: column[:0] for name, column in small_rows(4).batch.columns.items()}
    assert FieldSums(fields, 5)(columns).shape == (0, len(fields), 5)


def test_masked_padding_gets_no_gradient() -> None:
    sums = FieldSums([Field("title", "sequence", 7, "item", 3)], 2)
    sums({"title": torch.tensor([[5, 2, 0]])}).sum().backward()
    assert sums.table_VD.grad is not None
    assert sums.table_VD.grad.abs().sum(dim=1).nonzero().flatten().tolist() == [2, 5]


def test_embedded_fields_keep_their_order_and_numbers_stay_numbers() -> None:
    embeddings = FieldEmbeddings(FIELDS, 4)
    batch = small_rows(6).batch
    values = embeddings(batch)
    assert values.embedded_BFD.shape == (6, 4, 4)
    assert values.item_field == 1
    assert torch.equal(values.embedded_BFD[:, 1], embeddings.item_ID[batch.columns["item_id"].long()])
    assert torch.equal(values.numbers_BN, torch.stack([batch.columns["timestamp"], batch.columns["count"]], dim=1))


def test_fields_without_an_item_id_are_refused() -> None:
    with pytest.raises(ValueError, match="0 have the role item_id"):
        FieldEmbeddings([field for field in FIELDS if field.role != "item_id"], 4)


def test_an_empty_list_of_fields_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^fields: no category and no sequence to embed; give one at least$"):
        FieldSums([], 4)
    alone = [field for field in FIELDS if field.role == "item_id" or field.kind == "number"]
    with pytest.raises(ValueError, match=r"^fields: nothing to embed beside the item's ID; give another .*$"):
        FieldEmbeddings(alone, 4)


def test_pairwise_interactions_are_the_double_loop() -> None:
    fields_BFD = torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True)
    pairs = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    expected: Tensor = sum(((fields_BFD[:, i] * fields_BFD[:, j]).sum(1) for i, j in pairs), torch.zeros(3))
    torch.testing.assert_close(pairwise_interactions(fields_BFD), expected)
    assert torch.autograd.gradcheck(pairwise_interactions, fields_BFD)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5])
def test_dropout_zeroes_this_share_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    layer = Dropout(p)
    ones = torch.ones(1001, 333)
    dropped = layer(ones)
    standard_error = (p * (1 - p) / ones.numel()) ** 0.5
    assert abs(float((dropped == 0).float().mean()) - p) <= 4 * standard_error
    torch.testing.assert_close(dropped[dropped != 0], torch.full_like(dropped[dropped != 0], 1 / (1 - p)))
    assert torch.equal(layer.eval()(ones), ones)


@pytest.mark.parametrize("p", [0.4, 0.5])
def test_dropout_draws_neighbours_apart(p: float) -> None:
    torch.manual_seed(0)
    kept = (Dropout(p)(torch.ones(100_000)) != 0).double()
    for lag in (1, 2, 3, 4, 8, 64):
        assert abs(float(torch.corrcoef(torch.stack([kept[:-lag], kept[lag:]]))[0, 1])) < 0.015


def test_mlp_gives_one_logit_a_row() -> None:
    assert MLP(7, (5, 3), 0.2)(torch.randn(4, 7)).shape == (4,)
    assert [type(layer).__name__ for layer in MLP(7, (5,), 0.2)][:4] == ["Linear", "BatchNorm", "ReLU", "Dropout"]


@pytest.mark.parametrize("hidden", [(), (5, 3)])
def test_part_of_an_mlps_inputs_can_come_later(hidden: tuple[int, ...]) -> None:
    mlp = MLP(6, hidden, 0.0).eval()
    inputs_BX, changing_K = torch.randn(4, 6), torch.tensor([1, 2, 5])
    rest_BX = inputs_BX.index_fill(1, changing_K, 0.0)
    torch.testing.assert_close(mlp.part_to_logits(rest_BX, changing_K)(inputs_BX[:, changing_K]), mlp(inputs_BX))


def test_field_pairs_are_in_order() -> None:
    first_BPD, second_BPD = field_pairs(torch.arange(4.0).view(1, 4, 1))
    assert first_BPD.flatten().tolist() == [0, 0, 0, 1, 1, 2]
    assert second_BPD.flatten().tolist() == [1, 2, 3, 2, 3, 3]
