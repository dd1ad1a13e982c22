"""Every method of `search_spaces/` around every backbone there passes the conformance suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.methods import MethodCatalog, defaults, load_class
from trainables.base import ColdStartMethod, CtrModel, Field
from trainables.cold_start.conformance import CHECKS, Build

CATALOG = MethodCatalog(Path(__file__).parents[3] / "search_spaces")
CLASSES = {name: load_class(CATALOG.find(name)) for name in CATALOG.names()}
METHODS = [name for name, cls in CLASSES.items() if issubclass(cls, ColdStartMethod)]
BACKBONES = [name for name, cls in CLASSES.items() if issubclass(cls, CtrModel)]
SMALL: dict[str, Any] = {"weight_decay": 0.0, "batch_size": 16, "repetitions": 1, "stride": 100}
SMALL |= {"neurons": 8, "hidden": (8,)}  # AFN's 1,500 and 400 would take minutes


def small(cls: type[Any]) -> dict[str, Any]:
    return {name: value for name, value in SMALL.items() if name in defaults(cls)}


def build(method: str, backbone: str) -> Build:
    def built(fields: tuple[Field, ...]) -> ColdStartMethod:
        inner: CtrModel = CLASSES[backbone](fields, **small(CLASSES[backbone]))
        outer: ColdStartMethod = CLASSES[method](inner, **small(CLASSES[method]))
        return outer

    return built


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_that_"))
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("method", METHODS)
def test_conformance(method: str, backbone: str, check: Callable[[Build], None]) -> None:
    check(build(method, backbone))


def test_all_of_table_1_is_here() -> None:
    assert {"bare_backbone", "csdm", "cvar", "dropoutnet", "meta_embedding", "mwuf", "velf"} <= set(METHODS)
    assert "deepfm" in BACKBONES
