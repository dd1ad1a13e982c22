from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from tests.trainables.small_rows import FIELDS, small_rows
from trainables.ctr.deepfm import DeepFM


def test_logits_are_linear_plus_pairs_plus_mlp() -> None:
    model = DeepFM(FIELDS, embedding_size=4, hidden=(5,), dropout=0.0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    batch = small_rows(6).batch
    columns = {
        name: column.long() if not column.is_floating_point() else column for name, column in batch.columns.items()
    }
    table_VD = model.embeddings.others.table_VD
    words_BLD = table_VD[9 + 4 + columns["title"]] * (columns["title"] != 0).unsqueeze(2)
    vectors = [
        table_VD[columns["user_id"]],
        model.item_embedding[columns["item_id"]],
        table_VD[9 + columns["year"]],
        words_BLD.sum(1),
        columns["timestamp"].unsqueeze(1) * model.number_fields.vector_ND[0],
        columns["count"].unsqueeze(1) * model.number_fields.vector_ND[1],
    ]
    pairs_B = sum((vectors[i] * vectors[j]).sum(1) for i in range(6) for j in range(i))
    numbers_BN = torch.stack([columns["timestamp"], columns["count"]], dim=1)
    linear_B = numbers_BN @ model.linear.weight[0] + model.linear.bias
    first, normalization, _, _, last, _ = model.mlp
    hidden = F.relu(normalization(first(torch.cat(vectors, dim=1))))
    torch.testing.assert_close(model(batch), linear_B + pairs_B + last(hidden).squeeze(1))


def test_every_parameter_can_start_within_a_hundredth() -> None:
    torch.manual_seed(0)
    model = DeepFM(FIELDS, normalization_start="uniform")
    assert all(float(parameter.detach().abs().max()) <= 0.01 for parameter in model.parameters())
    assert float(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).std()) > 0.005


def test_normalization_starts_as_torch_has_it() -> None:
    model = DeepFM(FIELDS)
    for name, parameter in model.mlp.named_parameters():
        if name.split(".")[0] in ("1", "5"):
            assert set(parameter.tolist()) == ({1.0} if name.endswith("weight") else {0.0})


def test_other_item_embeddings_give_what_a_changed_table_gives() -> None:
    model = DeepFM(FIELDS, embedding_size=4).eval()
    batch = small_rows(6).batch
    values = model.embed(batch)
    table_ID = torch.randn_like(model.item_embedding)
    given = model.interact(values.with_item(table_ID[batch.columns["item_id"].long()]))
    with torch.no_grad():
        model.item_embedding.copy_(table_ID)
    torch.testing.assert_close(given, model(batch))


def test_it_learns_the_planted_rule() -> None:
    torch.manual_seed(0)
    model, batch = DeepFM(FIELDS), small_rows(512).batch
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        loss = F.binary_cross_entropy_with_logits(model(batch), batch.label_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(((model.eval()(batch) > 0) == (batch.label_B > 0.5)).float().mean()) > 0.95
