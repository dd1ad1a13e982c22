import random
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.errors import DataError, StoreError
from harness.measured import Measured, merge_measured, read_measured, write_measured
from harness.metrics.calibration import Reliability


def record(seed=0, **changes):
    values = {
        "dataset": "ml-1m",
        "row": "CSDM(DeepFM)",
        "selection": "tuned",
        "seed": seed,
        "trial_id": f"trial{seed}",
        "status": "finished",
        "parameters": '{"rho": 0.001}',
        "metrics": {"test/warm_a/auc": 0.1 + 0.2, "test/cold/auc": 0.7443},
        "data_hash": "abc",
        "data_note": "assembled",
        "wall_seconds": 31.25,
        "peak_memory_bytes": 2**33,
        "search_trials": 20,
        "search_distinct": 18,
        "search_failed": 2,
        "space_hash": "def",
    }
    return Measured(**(values | changes))


def test_written_and_read_back_to_the_last_bit(tmp_path):
    records = [
        record(0),
        record(1, status="failed", error="TrialError: loss is nan", metrics={}),
        record(2, row="SASRec", ranks=(1, 12101, 3)),
        record(3, row="SASRec", ranks=()),
        record(4, row="SASRec", reliability=Reliability((0.1, 0.3), (0.2, 0.3), (5.0, 6.0))),
    ]
    write_measured(tmp_path / "table" / "measured.parquet", records)
    assert read_measured(tmp_path / "table" / "measured.parquet") == records


def test_no_file_is_no_trials(tmp_path):
    assert read_measured(tmp_path / "measured.parquet") == []


def test_equal_trials_give_equal_bytes(tmp_path):
    records = [record(seed, row=row) for seed in range(10) for row in ("a", "b")]
    write_measured(tmp_path / "one.parquet", records)
    random.Random(0).shuffle(records)
    # The order in which metrics were recorded is of no account either.
    records = [replace(r, metrics=dict(reversed(r.metrics.items()))) for r in records]
    write_measured(tmp_path / "two.parquet", records)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_a_partial_store_erases_nothing():
    old = [record(0), record(1), record(2)]
    new = [record(1, trial_id="again", code_hash="new")]
    assert merge_measured(old, new) == [record(0), record(1, trial_id="again", code_hash="new"), record(2)]
    assert merge_measured(old, []) == old


def test_a_trial_may_stand_at_two_places():
    both = [record(0, selection="published"), record(0, selection="tuned")]
    assert merge_measured([], both) == both


def test_a_damaged_file_is_one_clear_line(tmp_path):
    path = tmp_path / "measured.parquet"
    write_measured(path, [record()])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"measured\.parquet: cannot be read .*restore it") as error:
        read_measured(path)
    assert "\n" not in str(error.value)


def test_a_missing_column_is_named(tmp_path):
    pq.write_table(pa.table({"dataset": ["ml-1m"]}), tmp_path / "measured.parquet")
    with pytest.raises(DataError, match="lacks column 'row'"):
        read_measured(tmp_path / "measured.parquet")


@pytest.mark.parametrize("name", ["metrics", "ranks", "curve", "seed"])
def test_a_column_of_another_kind_is_named(tmp_path, name):
    path = tmp_path / "measured.parquet"
    write_measured(path, [record()])
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, pa.array(["x"])), path)
    with pytest.raises(DataError, match=rf"measured\.parquet: column '{name}' holds string, .* expected; restore it"):
        read_measured(path)


def test_a_file_from_before_a_column_was_added_is_read(tmp_path):
    path = tmp_path / "measured.parquet"
    write_measured(path, [record(environment="a processor")])
    pq.write_table(pq.read_table(path).drop_columns(["environment", "search_failed"]), path)
    assert read_measured(path) == [record(environment="", search_failed=0)]


def test_a_failed_write_leaves_the_old_file_and_no_partial_one(tmp_path, monkeypatch):
    path = tmp_path / "measured.parquet"
    write_measured(path, [record()])
    before = path.read_bytes()

    def full_disk(table, where, **options):
        where.write_bytes(b"PAR1 half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full_disk)
    with pytest.raises(StoreError, match="No space left on device"):
        write_measured(path, [record(), record(1)])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["measured.parquet"]
