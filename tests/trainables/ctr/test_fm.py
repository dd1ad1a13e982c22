from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.methods import MethodCatalog
from harness.request import Request
from harness.schedule import Schedule
from harness.specs import TrialSpec
from tests.harness.small_table import play, small_cold_start
from tests.trainables.ctr.plain_arithmetic import field_vectors, numbers, with_random_parameters
from tests.trainables.small_rows import FIELDS, small_rows
from trainables.ctr.fm import FM

CATALOG = MethodCatalog(Path(__file__).parents[3] / "search_spaces")


def test_logits_are_the_double_loop_over_pairs() -> None:
    model = with_random_parameters(FM(FIELDS, embedding_size=4))
    batch = small_rows(6).batch
    number_vectors = [numbers(batch)[:, n : n + 1] * model.number_fields.vector_ND[n] for n in range(2)]
    vectors = [*field_vectors(model, batch), *number_vectors]
    for row, logit in enumerate(model(batch)):
        expected = model.linear.bias[0] + sum(model.linear.weight[0, n] * numbers(batch)[row, n] for n in range(2))
        for i in range(len(vectors)):
            for j in range(i + 1, len(vectors)):
                expected = expected + sum(vectors[i][row, d] * vectors[j][row, d] for d in range(4))
        torch.testing.assert_close(logit, expected, rtol=1e-5, atol=1e-5)


def test_dropout_has_no_effect() -> None:
    batch = small_rows(6).batch
    torch.manual_seed(0)
    plain = FM(FIELDS)
    torch.manual_seed(0)
    dropped = FM(FIELDS, dropout=0.5)
    assert torch.equal(plain(batch), dropped(batch))
    assert plain.state_dict().keys() == dropped.state_dict().keys()


@pytest.mark.parametrize("method", ["bare_backbone", "dgenctr_backbone"])
def test_a_row_of_it_can_be_searched(method: str, tmp_path: Path) -> None:
    row = {"name": "FM", "method": method, "parameters": {"backbone": "fm"}}
    small = small_cold_start(tmp_path, rows=[row], search={"trials": 8})
    request = Request(
        table=small.spec,
        datasets={small.dataset_name: small.dataset},
        rows=("FM",),
        seeds=(0,),
        selection="tuned",
        overrides={},
        retry_failed=False,
    )
    jobs = play(Schedule(request, CATALOG, small.store), small.store)
    specs: list[TrialSpec] = [job.spec for job in jobs]
    assert [spec.purpose for spec in specs] == ["search"] * 8 + ["repeat"]
    rates = {spec.parameters.get("backbone.dropout") for spec in specs}
    assert rates <= {None, 0.1, 0.2, 0.3} and len(rates) > 1
