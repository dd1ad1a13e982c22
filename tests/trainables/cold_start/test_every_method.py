"""Every method of `search_spaces/` around every backbone there passes the conformance suite."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.datasets.cikm import DATASETS as OF_CIKM
from harness.datasets.large.packing import schema_fields
from harness.datasets.taobao import DATASETS as OF_TAOBAO
from harness.errors import InputError
from harness.methods import MethodCatalog, checked, defaults, load_class
from trainables.base import ColdStartMethod, CtrModel, Field
from trainables.cold_start.conformance import CHECKS, Build

CATALOG = MethodCatalog(Path(__file__).parents[3] / "search_spaces")
CLASSES = {name: load_class(CATALOG.find(name)) for name in CATALOG.names()}
METHODS = [name for name, cls in CLASSES.items() if issubclass(cls, ColdStartMethod)]
OF_TABLE_1 = ("bare_backbone", "csdm", "cvar", "dropoutnet", "meta_embedding", "mwuf", "velf")
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


@pytest.mark.parametrize("method", METHODS)
def test_batches_of_a_single_row_which_would_train_nothing_are_refused(method: str) -> None:
    assert checked(CLASSES[method], {"batch_size": 2}, method) == {"batch_size": 2}
    with pytest.raises(InputError, match=rf"^{method}: batch_size = 1: input should be greater than or equal to 2$"):
        checked(CLASSES[method], {"batch_size": 1}, method)


@pytest.mark.parametrize("method", ["csdm", "cvar", "mwuf", "meta_embedding"])
def test_published_side_information_is_that_of_the_released_programs(method: str) -> None:
    """`item_features` of their loaders: data/taobaoAD.py of both programs, data/cikm.py of CSDM's."""
    taobao, cikm = OF_TAOBAO[0], OF_CIKM[0]
    for dataset, names in ((taobao, ("item_id", "category", "customer", "campaign")), (cikm, ("item_id", "count"))):
        published = CATALOG.find(method).published_for(dataset.name)
        assert published is not None and published["side_fields"] == names
        fields = schema_fields(dataset, 9, 12, defaultdict(lambda: 4), {})
        backbone = CLASSES["deepfm"](tuple(field.field() for field in fields))
        CLASSES[method](backbone, **checked(CLASSES[method], published, method))
    everywhere = CATALOG.find(method).published_for("ml-1m")
    assert everywhere is not None and "side_fields" not in everywhere


@pytest.mark.parametrize("method", OF_TABLE_1)
def test_a_batch_of_cikm_has_the_rows_that_the_paper_says(method: str) -> None:
    published = CATALOG.find(method).published_for("cikm")
    assert published is not None and published["batch_size"] == 4096


def test_all_of_table_1_is_here() -> None:
    assert set(OF_TABLE_1) <= set(METHODS)
    assert "deepfm" in BACKBONES
