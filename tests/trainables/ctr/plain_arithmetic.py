"""What the tests of click-through-rate models compute for themselves, in evaluation mode.

Legend: B rows, D embedding size, N numbers.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from tests.trainables.small_rows import USERS
from trainables.base import CtrBatch
from trainables.layers import MLP, EmbeddedCtrModel

Model = TypeVar("Model", bound=nn.Module)


def with_random_parameters(model: Model) -> Model:
    """Give every parameter and every running statistic a value that shows, and return the model for evaluation."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 2.0)
    return model.eval()


def field_vectors(model: EmbeddedCtrModel, batch: CtrBatch) -> list[Tensor]:
    """Return the embeddings [B, D] of user, item, year and title, row by row and word by word."""
    table_VD = model.embeddings.others.table_VD
    columns = batch.columns
    title = [
        sum((table_VD[USERS + 4 + word] for word in row if word != 0), torch.zeros(table_VD.shape[1]))
        for row in columns["title"].tolist()
    ]
    return [
        torch.stack([table_VD[user] for user in columns["user_id"].tolist()]),
        torch.stack([model.item_embedding[item] for item in columns["item_id"].tolist()]),
        torch.stack([table_VD[USERS + year] for year in columns["year"].tolist()]),
        torch.stack(title),
    ]


def numbers(batch: CtrBatch) -> Tensor:
    """Return the numbers [B, N]."""
    return torch.stack([batch.columns["timestamp"], batch.columns["count"]], dim=1)


def mlp_logits(mlp: MLP, inputs: Tensor) -> Tensor:
    """Return an MLP's logits [B], its Linear and BatchNorm layers written out."""
    hidden = inputs
    for layer in mlp:
        if isinstance(layer, nn.Linear):
            hidden = hidden @ layer.weight.T + layer.bias
        if isinstance(layer, nn.BatchNorm1d):
            hidden = normalized(layer, hidden).relu()
    return hidden.squeeze(1)


def normalized(layer: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """Return (x − mean) / √(variance + ε) · scale + shift over the last dimension."""
    assert layer.running_mean is not None and layer.running_var is not None
    return (x - layer.running_mean) / (layer.running_var + layer.eps).sqrt() * layer.weight + layer.bias
