from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from ray._private.runtime_env.packaging import _get_excludes

from harness.cluster import _remedy, _shipped
from harness.errors import StoreError
from harness.places import Places, places
from harness.store import Store


def test_a_worker_finds_the_search_spaces_in_the_checkout_that_came_with_the_run() -> None:
    here = places()
    driver = replace(here, checkout=Path("/home/me/diffbench"), search_spaces=Path("/home/me/diffbench/search_spaces"))
    sent = TypeAdapter(Places).validate_json(TypeAdapter(Places).dump_json(driver))
    assert sent == driver
    assert sent.in_worker().search_spaces == here.checkout / "search_spaces"
    assert sent.in_worker() == replace(driver, search_spaces=here.checkout / "search_spaces")


def test_search_spaces_of_another_place_are_there_on_every_node() -> None:
    driver = replace(places(), checkout=Path("/home/me/diffbench"), search_spaces=Path("/shared/search_spaces"))
    assert driver.in_worker() == driver


@pytest.mark.parametrize("said_by", ["option", "variable"])
def test_a_relative_store_is_the_same_for_processes_that_run_in_other_folders(
    said_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFFBENCH_STORE", "runs" if said_by == "variable" else "")
    driver = places("runs" if said_by == "option" else None)
    sent = TypeAdapter(Places).validate_json(TypeAdapter(Places).dump_json(driver)).in_worker()
    monkeypatch.chdir(tmp_path / "elsewhere")
    Store(sent.store).check_writable()
    assert sent.store == str(tmp_path / "runs")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_store_at_a_uri_or_in_a_home_is_taken_as_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert places("~/runs").store == "/home/me/runs"
    assert places("s3://bucket/runs?region=eu-west-1").store == "s3://bucket/runs?region=eu-west-1"
    with pytest.raises(StoreError, match=r"^store ~nobody-of-this-name/x: cannot be used"):
        Store(places("~nobody-of-this-name/x").store)


@pytest.mark.parametrize("location", ["s3:/bucket/runs", "fsspec+memory:/runs", "gs:/"])
def test_a_uri_that_lacks_a_slash_makes_no_folder(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = location.replace(":/", "://")
    for option, variable in ((location, ""), (None, location)):
        monkeypatch.setenv("DIFFBENCH_STORE", variable)
        with pytest.raises(StoreError) as error:
            places(option)
        assert (
            str(error.value) == f"store {location}: not a URI; write {uri}, or ./{location} for a folder of that name"
        )


@pytest.mark.parametrize("location", ["./s3:/runs", "/data/a:/runs", "runs:new"])
def test_a_folder_may_have_a_colon(location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert places(location).store == str(tmp_path / location)


def test_what_is_shipped_is_the_program_wherever_results_go(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DIFFBENCH_RESULTS", str(tmp_path / "results"))
    checkout = places().checkout
    assert (checkout / "harness" / "places.py").is_file()
    shipped = _shipped(checkout)
    assert shipped["working_dir"] == str(checkout)
    left_out = _get_excludes(checkout, shipped["excludes"])
    wanted = ("harness/places.py", "search_spaces/csdm.yaml", "results/csdm/table1/table.yaml", "tests/doubles.py")
    assert not any(left_out(checkout / name) for name in wanted)
    for name in (".venv/bin/python", ".mypy_cache/3.11/x.json", ".git/HEAD", "results/csdm/table1/measured.parquet"):
        assert left_out(checkout / name)
    assert _shipped(tmp_path) == {}, "no checkout, but where packages are installed"


def test_what_a_cluster_may_ask_for_is_named(monkeypatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    assert _remedy("10.0.0.1:6379") == "; if it asks for a token, set RAY_AUTH_MODE=token"
    assert _remedy("auto") == ""
    assert _remedy(None).endswith("`diffbench run --serial`")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert _remedy("10.0.0.1:6379") == ""
