import pytest
import torch
from torch import Tensor, nn

from trainables.next_item.late_rows import LateRows, Rates

ROWS, COLUMNS = 12, 5


def gradients(step: int) -> tuple[Tensor, Tensor]:
    """Rows that a step touches, some of them seldom, and their gradients."""
    generator = torch.Generator().manual_seed(step)
    row_R = (torch.rand(ROWS, generator=generator) < torch.linspace(0.01, 0.9, ROWS)).nonzero().squeeze(1)
    return row_R, torch.randn(len(row_R), COLUMNS, generator=generator)


def trained(rates: Rates, steps: int, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """A table's start, and how it ends by `LateRows` and by torch's dense AdamW."""
    start_ID = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))
    late, dense = nn.Parameter(start_ID.clone()), nn.Parameter(start_ID.clone())
    rows = LateRows(late, rates)
    adamw = torch.optim.AdamW([dense], rates.learning_rate, weight_decay=rates.weight_decay)
    for step in range(steps):
        row_R, gradient_RD = gradients(step)
        read_RD = rows.read(row_R)
        # A row that is read is where dense AdamW has it, to a few percent of one step.
        torch.testing.assert_close(read_RD.detach(), dense.detach()[row_R], atol=0.04 * rates.learning_rate, rtol=1e-4)
        (read_RD * gradient_RD * scale).sum().backward()
        rows.apply()
        dense.grad = torch.zeros_like(dense).index_copy_(0, row_R, gradient_RD * scale)
        adamw.step()
    rows.finish()
    return start_ID, late.detach(), dense.detach()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(("scale", "tolerance"), [(1.0, 1e-5), (1e-8, 4e-4)], ids=["far above ε", "about ε"])
def test_equals_torchs_dense_adamw(weight_decay: float, scale: float, tolerance: float) -> None:
    start_ID, late_ID, dense_ID = trained(Rates(1e-2, weight_decay), 400, scale)
    assert float((dense_ID - start_ID).abs().max()) > 0.1
    torch.testing.assert_close(late_ID, dense_ID, atol=tolerance, rtol=1e-4)


def test_a_step_writes_touched_rows_alone() -> None:
    table_ID = nn.Parameter(torch.randn(6, 3))
    rows, before_ID = LateRows(table_ID, Rates(0.1, 0.0)), table_ID.detach().clone()
    for row_R in (torch.tensor([1, 4]), torch.tensor([4])):
        rows.read(row_R).sum().backward()
        rows.apply()
    once_D = table_ID.detach()[1].clone()
    assert torch.equal(table_ID.detach()[[0, 2, 3, 5]], before_ID[[0, 2, 3, 5]])
    rows.finish()
    assert not torch.equal(table_ID.detach()[1], once_D)  # the momentum's way, made up for
    assert torch.equal(table_ID.detach()[[0, 2, 3, 5]], before_ID[[0, 2, 3, 5]])
    after_ID = table_ID.detach().clone()
    rows.finish()
    assert torch.equal(table_ID.detach(), after_ID)


def test_gradients_of_two_reads_add_up() -> None:
    tables = [nn.Parameter(torch.ones(4, 2)) for _ in range(2)]
    twice, once = (LateRows(table, Rates(0.1, 0.0)) for table in tables)
    twice.read(torch.tensor([0, 2])).sum().backward()
    (3 * twice.read(torch.tensor([2, 3]))).sum().backward()
    (once.read(torch.tensor([0, 2, 3])) * torch.tensor([[1.0], [4.0], [3.0]])).sum().backward()
    for rows in (twice, once):
        rows.apply()
        rows.read(torch.tensor([1]))
        rows.forget_reads()
        rows.apply()
        rows.finish()
    torch.testing.assert_close(tables[0], tables[1])


def test_many_steps_without_a_touch() -> None:
    """A row that is touched once and then left alone for longer than steps are remembered."""
    late, dense = nn.Parameter(torch.zeros(2, 1)), nn.Parameter(torch.zeros(2, 1))
    rows, adamw = LateRows(late, Rates(0.01, 0.0)), torch.optim.AdamW([dense], 0.01, weight_decay=0.0)
    for step in range(600):
        row_R = torch.tensor([0, 1]) if step == 0 else torch.tensor([0])
        rows.read(row_R).sum().backward()
        rows.apply()
        dense.grad = torch.tensor([[1.0], [float(step == 0)]])
        adamw.step()
    rows.finish()
    torch.testing.assert_close(late, dense, atol=1e-4, rtol=1e-4)


def test_training_goes_on_after_rows_were_finished_under_inference_mode():
    rows, columns = 6000, 64  # more rows to finish than a step touches, so that finishing needs more room
    table_ID = nn.Parameter(torch.randn(rows, columns))
    late = LateRows(table_ID, Rates(0.1, 0.0))
    for step in range(2):
        read_RD = late.read(torch.tensor([step, 7]))
        read_RD.sum().backward()
        late.apply()
        with torch.inference_mode():
            late.finish()
    assert int(late.current_I.min()) == 2
    assert not table_ID.is_inference()
