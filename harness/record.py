"""The record of a finished trial: what `result.json` holds."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import StoreError
from harness.specs import TrialSpec

TRAINING_ROWS, OPTIMUM_AUC = "training_rows", "optimum_auc"
PLANTED = (TRAINING_ROWS, OPTIMUM_AUC)
"""Metrics of generated rows that are the data's, the same for every trial: how many rows there are to learn from, and
the AUC of the true probabilities on the test rows."""

INFERENCE = "inference_s"
TEST_INFERENCE = f"test/{INFERENCE}"
"""A curve of one point: the seconds that ranking the test split took. No metric of the record, as metrics are the same
whenever a trial runs again."""


class Frozen(BaseModel):
    """Unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Curve(Frozen):
    """The points of a logged quantity; `seconds` since the trial's start."""

    steps: list[int] = []
    values: list[float] = []
    seconds: list[float] = []


class Environment(Frozen):
    """Where a trial ran; `gpu` is empty of one that computed on the CPU."""

    python: str
    torch: str
    numpy: str
    platform: str
    processor: str
    threads: int
    gpu: str = ""


class TrialResult(Frozen):
    """What a trial measured, or why it could not.

    Times are in seconds, memory in bytes. `files` are the trial's other files with their sha256.
    """

    id: str
    spec: TrialSpec
    status: Literal["finished", "failed"]
    error: str = ""
    metrics: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = {}
    curves: dict[str, Curve] = {}
    environment: Environment | None = None
    code_hash: str = ""
    data_note: str = ""
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    files: dict[str, str] = {}

    @model_validator(mode="after")
    def _identity(self) -> TrialResult:
        if self.id != self.spec.id:
            raise ValueError(f"the record says {self.id}, its spec {self.spec.id}")
        return self

    def to_json(self) -> bytes:
        """Return the record as JSON, with a checksum that finds later damage."""
        body = self.model_dump(mode="json")
        for curve in body["curves"].values():
            curve["values"] = [
                value if value is not None and math.isfinite(value) else None for value in curve["values"]
            ]
        return json.dumps({"sha256": _checksum(body), "result": body}, indent=1, allow_nan=False).encode()

    @classmethod
    def from_json(cls, content: bytes) -> TrialResult:
        """Read a record back.

        Raises:
            ValueError: the content is not a whole, undamaged record.
            StoreError: it is one, of another version of this program.
        """
        try:
            document = json.loads(content)
            body = document["result"]
            if document["sha256"] != _checksum(body):
                raise ValueError("the checksum does not fit")
            for curve in body["curves"].values():
                curve["values"] = [math.nan if value is None else value for value in curve["values"]]
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
            raise ValueError(f"not a whole record ({type(error).__name__})") from None
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"])) or "its id"
            raise StoreError(
                f"trial {body.get('id')}: another version of diffbench wrote its record ({where} does not fit); use "
                "that version, or another store"
            ) from None


def _checksum(body: object) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()
