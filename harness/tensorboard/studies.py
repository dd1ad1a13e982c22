"""The HParams page: a session for each search trial, and the columns of all studies together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import (
    DATA_TYPE_BOOL,
    DATA_TYPE_FLOAT64,
    DATA_TYPE_STRING,
    DATASET_VALIDATION,
    STATUS_FAILURE,
    STATUS_SUCCESS,
    Experiment,
    HParamInfo,
    MetricInfo,
    MetricName,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from harness.errors import StoreError
from harness.record import TrialResult
from harness.specs import Value
from harness.tensorboard.events import PREFIX, key_of, plugin_event, remove_run, write_run

FINAL = "final/"
STUDY = "study"
"""The column that says which study a trial belongs to, to filter by."""

_TYPES = {"bool_value": DATA_TYPE_BOOL, "number_value": DATA_TYPE_FLOAT64, "string_value": DATA_TYPE_STRING}


def session_events(study: str, result: TrialResult, parameters: Mapping[str, Value]) -> Iterator[Event]:
    """Yield what makes a run a session of the HParams page: its parameters, and how it ended."""
    start = SessionStartInfo(start_time_secs=0.0)
    for name, value in (dict(result.spec.parameters) | dict(parameters) | {STUDY: study}).items():
        _set(start.hparams[name], value)
    yield _session_event(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))
    status = STATUS_SUCCESS if result.status == "finished" else STATUS_FAILURE
    end = SessionEndInfo(status=status, end_time_secs=result.wall_seconds)
    yield _session_event(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))


def write_studies(logdir: Path) -> bool:
    """Declare the parameters and final metrics of every search trial in `logdir`, of all tables, in the run `studies`.

    TensorBoard takes its columns from one declaration only, the first that it finds; without one it would show every
    point of every curve as a metric. Each study's primary metric comes first. Returns False when nothing changed.

    Raises:
        StoreError: an event file cannot be read, or the declaration not written.
    """
    values: dict[str, list[Any]] = {}
    primary_metrics: dict[str, None] = {}
    other_metrics: dict[str, None] = {}
    for path in sorted(logdir.glob(f"**/search/*/{PREFIX}*")):
        parameters, metrics = _read_session(path)
        for name, value in parameters.items():
            values.setdefault(name, []).append(value)
        primary_metrics |= dict.fromkeys(metrics[:1])
        other_metrics |= dict.fromkeys(metrics[1:])
    folder = logdir / "studies"
    if not values:
        remove_run(folder)
        return False
    experiment = Experiment(
        hparam_infos=[_parameter_column(name, values[name]) for name in sorted(values, key=lambda n: (n != STUDY, n))],
        metric_infos=[_metric_column(tag) for tag in primary_metrics | other_metrics],
    )
    declaration = _session_event(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment))
    return write_run(folder, key_of(declaration.SerializeToString(deterministic=True).hex()), lambda: [declaration])


def _read_session(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the parameters of a search trial and the tags of its final metrics, which stand at its file's start."""
    parameters: dict[str, Any] = {}
    metrics: list[str] = []
    try:
        for content in RawEventFileLoader(str(path)).Load():
            for value in Event.FromString(content).summary.value:
                if value.tag == metadata.SESSION_START_INFO_TAG:
                    plugin_data = value.metadata.plugin_data.content
                    start = metadata.parse_session_start_info_plugin_data(plugin_data)
                    parameters = dict(start.hparams)
                elif value.tag.startswith(FINAL):
                    metrics.append(value.tag)
                elif value.tag != metadata.SESSION_END_INFO_TAG:
                    return parameters, metrics
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from None
    return parameters, metrics


def _parameter_column(name: str, values: Iterable[Any]) -> HParamInfo:
    """Return a column with the values or the range that it can be filtered by; mixed types count as text."""
    by_kind: dict[str, set[Any]] = {}
    for value in values:
        kind = value.WhichOneof("kind")
        by_kind.setdefault(kind, set()).add(getattr(value, kind))
    kind = next(iter(by_kind)) if len(by_kind) == 1 else "string_value"
    distinct = sorted(by_kind[kind] if len(by_kind) == 1 else {str(v) for some in by_kind.values() for v in some})
    info = HParamInfo(name=name, type=_TYPES[kind], differs=len(distinct) > 1)
    if kind == "number_value":
        info.domain_interval.min_value, info.domain_interval.max_value = distinct[0], distinct[-1]
    else:
        for value in distinct:
            info.domain_discrete.values.add(**{kind: value})
    return info


def _metric_column(tag: str) -> MetricInfo:
    name = tag.removeprefix(FINAL)
    return MetricInfo(name=MetricName(tag=tag), display_name=name, dataset_type=DATASET_VALIDATION)


def _set(field: Any, value: Value) -> None:
    if isinstance(value, bool):
        field.bool_value = value
    elif isinstance(value, int | float):
        field.number_value = value
    else:
        field.string_value = "none" if value is None else str(value)


def _session_event(tag: str, data: HParamsPluginData) -> Event:
    return plugin_event(tag, metadata.create_summary_metadata(data), metadata.NULL_TENSOR)
