from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from pydantic import ValidationError

from harness.errors import StoreError
from harness.record import Curve, Environment, TrialResult, _checksum
from harness.specs import TrialSpec

SPEC = TrialSpec(
    task="next_item",
    dataset="d",
    dataset_hash="0" * 64,
    method="m",
    parameters={"rate": 0.1, "size": 64, "kind": "squared · ²", "flag": True, "none": None, "layers": (1, 2)},
    versions={"m": 1},
    seed=3,
    threads=1,
    purpose="repeat",
)


def result(**changes: Any) -> TrialResult:
    keys: dict[str, Any] = {
        "id": SPEC.id,
        "spec": SPEC,
        "status": "finished",
        "metrics": {"test/recall@5": 0.1 + 0.2, "test/ndcg@5": 1 / 3},
        "curves": {"train/loss": Curve(steps=[1, 2], values=[0.7, 1e-300], seconds=[0.5, 1.25])},
        "environment": Environment(python="3", torch="2", numpy="2", platform="p", processor="AVX2", threads=1),
        "wall_seconds": 12.5,
        "files": {"arrays.npz": "ab"},
    }
    return TrialResult(**keys | changes)


def test_a_record_comes_back_to_the_last_bit() -> None:
    record = result()
    back = TrialResult.from_json(record.to_json())
    assert back == record
    assert back.spec.id == SPEC.id
    assert [type(value) for value in back.spec.parameters.values()] == [float, int, str, bool, type(None), tuple]


def test_a_record_of_a_trial_that_starts_from_another_comes_back() -> None:
    spec = SPEC.model_copy(update={"starts_from": SPEC, "seed": 4})
    record = TrialResult(id=spec.id, spec=spec, status="failed", error="why")
    back = TrialResult.from_json(record.to_json())
    assert back == record
    assert back.spec.starts_from == SPEC


def test_curve_values_that_are_not_finite_come_back_as_nan() -> None:
    values = [math.nan, math.inf, -math.inf, 2.0]
    record = result(curves={"loss": Curve(steps=[1, 2, 3, 4], values=values, seconds=[0.0] * 4)})
    content = record.to_json()
    json.loads(content, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    back = TrialResult.from_json(content).curves["loss"].values
    assert [math.isnan(value) for value in back] == [True, True, True, False]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_metrics_must_be_finite(value: float) -> None:
    with pytest.raises(ValidationError):
        result(metrics={"test/auc": value})


def test_the_id_must_be_the_specs() -> None:
    with pytest.raises(ValidationError, match="its spec"):
        result(id="0" * 20)


def test_every_truncation_is_found() -> None:
    content = result().to_json()
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"whole record|checksum"):
            TrialResult.from_json(content[:length])


def test_no_flipped_bit_changes_what_is_read() -> None:
    """A flip is found, or changes nothing: `e` and `E` in an exponent, or a digit beyond a float's precision."""
    record = result()
    content = record.to_json()
    chosen, found = random.Random(0), 0
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << chosen.randrange(8)
        try:
            back = TrialResult.from_json(bytes(flipped))
        except ValueError:
            found += 1
        else:
            assert back == record, f"byte {position}"
    assert found > 0.95 * len(content)


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"{}", b'{"result": 1}', b'{"sha256": "x", "result": {}}', b"\xff\xfe", b"0" * 100]
)
def test_other_content_is_no_record(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"whole record|checksum"):
        TrialResult.from_json(content)


def test_a_whole_record_of_another_version_is_told_from_damage() -> None:
    document = json.loads(result().to_json())
    document["result"]["energy_joules"] = 1.5
    document["sha256"] = _checksum(document["result"])
    message = rf"trial {SPEC.id}: another version .* \(energy_joules does not fit\); use that version"
    with pytest.raises(StoreError, match=message):
        TrialResult.from_json(json.dumps(document).encode())


def test_a_changed_metric_is_found_although_it_is_valid_json() -> None:
    document = json.loads(result().to_json())
    document["result"]["metrics"]["test/recall@5"] = 0.9
    with pytest.raises(ValueError, match="checksum"):
        TrialResult.from_json(json.dumps(document).encode())
