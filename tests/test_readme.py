"""What the README tells a reader to type exists as written."""

from __future__ import annotations

import re
import shlex
import sys
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from harness import cli
from harness.datasets import catalog
from harness.options import chosen_rows, chosen_seeds
from harness.table_specs import find_table
from harness.tune_search import TRIES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
YAML = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)]
LINES = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines()]
INLINE = re.findall(r"`(diffbench [^`]+)`", README)
COMMANDS = [line for line in [*LINES, *INLINE] if line.startswith("diffbench ")]
RESULTS = sorted((ROOT / "results").glob("*/README.md"))
RUNS = sorted(
    {line for line in LINES if line.startswith("diffbench run ")}
    | {
        " ".join(command.split())
        for path in [ROOT / "README.md", *RESULTS]
        for command in re.findall(r"`(diffbench\s+run\s+[^`]+/[^`]+)`", path.read_text(encoding="utf-8"))
    }
)
"""What the documents say to run, of the results' too."""


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_command_and_its_options_exist(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command.split()[1:]
    names = [word for word in words if re.fullmatch(r"[a-z]+", word)]
    path = names[:2] if names[0] == "data" else names[:1]
    monkeypatch.setattr(sys, "argv", ["diffbench", *path, "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    assert not leaving.value.code
    printed = capsys.readouterr().out
    for option in re.findall(r"--[a-z-]+", command):
        assert option in printed


@pytest.mark.parametrize("command", RUNS)
def test_what_a_run_asks_of_its_table_exists(command: str) -> None:
    table, *options = shlex.split(command)[2:]
    spec, _ = find_table(table, ROOT / "results")
    given = dict(pairwise(options))
    assert chosen_rows(given.get("--methods"), spec.rows)
    assert chosen_seeds(given.get("--seeds"), spec)
    for name in filter(None, given.get("--datasets", "").split(",")):
        assert catalog.find(name).name == name


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_benchmarks_that_results_name_exist(path: Path) -> None:
    for name in re.findall(r"tests[./]benchmarks[./](\w+)", path.read_text(encoding="utf-8")):
        assert (ROOT / "tests" / "benchmarks" / f"{name}.py").is_file()


@pytest.mark.parametrize(
    "table", sorted(set(re.findall(r"\b(?:csdm|preferdiff|quickstart|synthetic)/[a-z0-9_-]+", README)))
)
def test_table_exists(table: str) -> None:
    spec, _ = find_table(table, ROOT / "results")
    assert spec.rows


@pytest.mark.parametrize("target", [line.split()[1] for line in LINES if line.startswith("make ")])
def test_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_every_dataset_it_names_is_in_the_catalog() -> None:
    named = set(re.findall(r"`((?:ml|amazon)-[a-z0-9-]+)`", README)) - {"-leave-one-out"}
    assert named
    assert named <= set(catalog.dataset_names())


def test_a_trial_is_begun_as_often_as_it_says() -> None:
    number = {2: "twice", 3: "three times", 4: "four times"}[TRIES]
    assert f"its running trials are begun again elsewhere, each begun {number} at most" in " ".join(README.split())


def test_ray_takes_the_cluster_of_machines() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    (cluster,) = [document for document in YAML if "cluster_name" in document]
    validate_config(prepare_config(cluster))


def test_the_job_on_kubernetes_is_of_the_installed_ray_and_its_pods_share_a_volume() -> None:
    (job,) = [document for document in YAML if document.get("kind") == "RayJob"]
    cluster = job["spec"]["rayClusterSpec"]
    assert version("ray").startswith(cluster["rayVersion"].rsplit(".", 1)[0])
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in (group["template"]["spec"] for group in groups):
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        values = {entry["name"]: entry["value"] for entry in container["env"]}
        for name in ("DIFFBENCH_HOME", "DIFFBENCH_RESULTS"):  # what is elsewhere ends with the pod
            assert values[name].startswith(container["volumeMounts"][0]["mountPath"])
