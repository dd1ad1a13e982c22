"""Our models beside DeepCTR-Torch's with the same weights.

The library's first-order weights of categories are zeroed, ours having none. Numbers are left to other tests where the
library treats them in another way. Its AFN is left out: it normalizes over other dimensions than its authors' program.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.ctr.plain_arithmetic import with_random_parameters
from tests.trainables.small_rows import FIELDS, small_rows
from trainables.base import CtrBatch
from trainables.ctr.afm import AFM
from trainables.ctr.dcn import DCN
from trainables.ctr.deepfm import DeepFM
from trainables.ctr.pnn import PNN, OuterProducts
from trainables.ctr.wide_deep import WideDeep
from trainables.layers import MLP, EmbeddedCtrModel

with mock.patch("threading.Thread.start"):  # on import the library asks the network for newer versions
    pytest.importorskip("deepctr_torch")
    from deepctr_torch import inputs, models

CATEGORIES = tuple(field for field in FIELDS if field.kind != "number")
SIZE, HIDDEN = 4, (16, 8)
LOGITS = "regression"
"""The task without a sigmoid at the end."""

pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")


def _features(*, numbers: bool = False) -> list[Any]:
    features: list[Any] = []
    for field in FIELDS if numbers else CATEGORIES:
        if field.kind == "number":
            features.append(inputs.DenseFeat(field.name))
            continue
        category = inputs.SparseFeat(field.name, field.size, embedding_dim=SIZE)
        sequence = inputs.VarLenSparseFeat(category, maxlen=field.length, combiner="sum")
        features.append(sequence if field.kind == "sequence" else category)
    return features


def _rows(batch: CtrBatch, *, numbers: bool = False) -> Tensor:
    fields = FIELDS if numbers else CATEGORIES
    return torch.cat([batch.columns[field.name].view(-1, field.length).float() for field in fields], dim=1)


@torch.no_grad()
def _copy_embeddings(model: EmbeddedCtrModel, library: Any) -> None:
    other_tables = iter(model.embeddings.others.table_VD.split([f.size for f in model.embeddings.others.fields]))
    for field in model.embeddings.embedded:
        table = model.item_embedding if field.role == "item_id" else next(other_tables)
        library.embedding_dict[field.name].weight.copy_(table)
    for first_order in library.linear_model.embedding_dict.values():
        first_order.weight.zero_()
    library.out.bias.zero_()


@torch.no_grad()
def _copy_mlp(mlp: MLP, library: Any) -> nn.Linear:
    """Copy the hidden layers, and return the output layer."""
    *hidden, output = [layer for layer in mlp if isinstance(layer, nn.Linear)]
    for theirs, linear in zip(library.dnn.linears, hidden, strict=True):
        theirs.load_state_dict(linear.state_dict())
    normalizations = [layer for layer in mlp if isinstance(layer, nn.BatchNorm1d)]
    if library.dnn.use_bn:
        for theirs, normalization in zip(library.dnn.bn, normalizations, strict=True):
            theirs.load_state_dict(normalization.state_dict())
    else:
        for normalization in normalizations:
            normalization.reset_parameters()
            normalization.eps = 0.0
    library.out.bias += output.bias
    return output


def _assert_same(model: EmbeddedCtrModel, library: Any, *, numbers: bool = False) -> None:
    batch = small_rows(40).batch
    logits_B = model(batch)
    assert float(logits_B.detach().std()) > 0.1
    theirs_B = library.eval()(_rows(batch, numbers=numbers)).squeeze(1)
    scale = float(logits_B.detach().abs().max())
    torch.testing.assert_close(logits_B, theirs_B, rtol=1e-5, atol=1e-5 * scale)
    torch.testing.assert_close(logits_B.sigmoid(), theirs_B.sigmoid(), rtol=0, atol=1e-5)


def test_deepfm() -> None:
    model = with_random_parameters(DeepFM(CATEGORIES, embedding_size=SIZE, hidden=HIDDEN))
    library = models.DeepFM(_features(), _features(), dnn_hidden_units=HIDDEN, dnn_use_bn=True, task=LOGITS)
    _copy_embeddings(model, library)
    with torch.no_grad():
        library.dnn_linear.weight.copy_(_copy_mlp(model.mlp, library).weight)
        library.out.bias += model.linear.bias
    _assert_same(model, library)


def test_wide_deep() -> None:
    model = with_random_parameters(WideDeep(FIELDS, embedding_size=SIZE, hidden=HIDDEN))
    library = models.WDL(_features(numbers=True), _features(), dnn_hidden_units=HIDDEN, dnn_use_bn=True, task=LOGITS)
    _copy_embeddings(model, library)
    with torch.no_grad():
        library.dnn_linear.weight.copy_(_copy_mlp(model.mlp, library).weight)
        library.linear_model.weight.copy_(model.linear.weight.T)
    _assert_same(model, library, numbers=True)


@pytest.mark.parametrize("cross_layers", [1, 3])
def test_dcn(cross_layers: int) -> None:
    model = with_random_parameters(DCN(CATEGORIES, embedding_size=SIZE, hidden=HIDDEN, cross_layers=cross_layers))
    library = models.DCN(
        _features(), _features(), cross_num=cross_layers, dnn_hidden_units=HIDDEN, dnn_use_bn=True, task=LOGITS
    )
    _copy_embeddings(model, library)
    with torch.no_grad():
        library.crossnet.kernels.copy_(model.cross.weight_LX.unsqueeze(2))
        library.crossnet.bias.copy_(model.cross.bias_LX.unsqueeze(2))
        output = _copy_mlp(model.mlp, library)
        library.dnn_linear.weight.copy_(torch.cat([model.cross.output_X.unsqueeze(0), output.weight], dim=1))
    _assert_same(model, library)


def test_pnn_with_inner_products() -> None:
    model = with_random_parameters(PNN(CATEGORIES, embedding_size=SIZE, hidden=HIDDEN))
    library = models.PNN(_features(), dnn_hidden_units=HIDDEN, task=LOGITS)
    _copy_embeddings(model, library)
    with torch.no_grad():
        library.dnn_linear.weight.copy_(_copy_mlp(model.mlp, library).weight)
    _assert_same(model, library)


def test_pnn_with_outer_products() -> None:
    model = with_random_parameters(PNN(CATEGORIES, embedding_size=SIZE, hidden=HIDDEN, product="outer"))
    library = models.PNN(_features(), dnn_hidden_units=HIDDEN, use_inner=False, use_outter=True, task=LOGITS)
    _copy_embeddings(model, library)
    assert isinstance(model.products, OuterProducts)
    with torch.no_grad():
        library.dnn_linear.weight.copy_(_copy_mlp(model.mlp, library).weight)
        library.outterproduct.kernel.copy_(model.products.weight_PDE.permute(2, 0, 1))
    _assert_same(model, library)


def test_afm() -> None:
    model = with_random_parameters(AFM(CATEGORIES, embedding_size=SIZE, attention_size=3))
    library = models.AFM(_features(), _features(), attention_factor=3, task=LOGITS)
    _copy_embeddings(model, library)
    inner_weight, inner_bias, projection = model.attention.parameters()
    (output,) = model.output.parameters()
    with torch.no_grad():
        library.fm.attention_W.copy_(inner_weight.T)
        library.fm.attention_b.copy_(inner_bias)
        library.fm.projection_h.copy_(projection.T)
        library.fm.projection_p.copy_(output.T)
        library.out.bias += model.linear.bias
    _assert_same(model, library)
