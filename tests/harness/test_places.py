from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from harness.cluster import _shipped
from harness.places import Places, places


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


def test_what_is_shipped_is_the_program_wherever_results_go(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DIFFBENCH_RESULTS", str(tmp_path / "results"))
    checkout = places().checkout
    assert (checkout / "harness" / "places.py").is_file()
    assert _shipped(checkout)["working_dir"] == str(checkout)
    assert _shipped(tmp_path) == {}, "no checkout, but where packages are installed"
