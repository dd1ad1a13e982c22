"""Every next-item method of `search_spaces/`, with every encoder that it offers, passes the conformance suite."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.methods import MethodCatalog, argument_types, checked, defaults, load_class
from harness.tasks.next_item import NextItemSettings
from trainables.base import NextItemModel, NextItemRanker
from trainables.next_item.conformance import (
    CHECKS,
    RANKING_CHECKS,
    USERS,
    Build,
    BuildRanker,
    check_that_users_it_does_not_know_are_left_alone,
)

CATALOG = MethodCatalog(Path(__file__).parents[3] / "search_spaces")
CLASSES = {name: load_class(CATALOG.find(name)) for name in CATALOG.names()}
METHODS = [name for name, cls in CLASSES.items() if issubclass(cls, NextItemModel) and not cls.trains_from_start]
RANKED = {name: cls for name, cls in CLASSES.items() if issubclass(cls, NextItemRanker)}
RANKERS = [name for name, cls in RANKED.items() if not issubclass(cls, NextItemModel)]
SMALL: dict[str, Any] = {"weight_decay": 0.0, "size": 16, "diffusion_steps": 20, "ddim_steps": 4}
SMALL |= {"codebook_size": 8, "codebooks": 2, "layers": 1, "pretraining_epochs": 1}  # 40 items fill no larger codebook


def encoders(cls: type[Any]) -> tuple[str, ...]:
    """The choices of a method's parameter `encoder`."""
    return typing.get_args(argument_types(cls).get("encoder")) or ("its own",)


def features(cls: type[Any], items: int) -> dict[str, Tensor]:
    """What the task would give a method besides: text embeddings, ids of attributes."""
    generator = torch.Generator().manual_seed(0)
    offered = {
        "text_IE": torch.randn(items, 24, generator=generator),
        "attribute_IA": torch.randint(0, 6, (items, 3), generator=generator, dtype=torch.int32),
    }
    return {name: tensor for name, tensor in offered.items() if name in inspect.signature(cls).parameters}


def build(method: str, encoder: str, users: int | None = None) -> Build:
    cls = CLASSES[method]
    told = {} if users is None else {"users": users}
    parameters = {name: value for name, value in SMALL.items() if name in defaults(cls)}
    if "encoder" in defaults(cls):
        parameters["encoder"] = encoder

    def built(items: int, history_length: int) -> NextItemModel:
        model: NextItemModel = cls(items, history_length, **features(cls, items), **told, **parameters)
        return model

    return built


WITH_USERS = [name for name in METHODS if "users" in inspect.signature(CLASSES[name]).parameters]
CASES = [(method, encoder) for method in METHODS for encoder in encoders(CLASSES[method])]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_that_"))
@pytest.mark.parametrize(("method", "encoder"), CASES)
def test_conformance(method: str, encoder: str, check: Callable[[Build], None]) -> None:
    check(build(method, encoder))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_that_"))
@pytest.mark.parametrize("method", WITH_USERS)
def test_conformance_with_users(method: str, check: Callable[[Build], None]) -> None:
    check(build(method, "its own", USERS))


@pytest.mark.parametrize(("method", "encoder"), CASES)
def test_users_it_was_not_built_with_are_left_alone(method: str, encoder: str) -> None:
    check_that_users_it_does_not_know_are_left_alone(build(method, encoder))


@pytest.mark.parametrize("check", RANKING_CHECKS, ids=lambda check: check.__name__.removeprefix("check_that_"))
@pytest.mark.parametrize("method", RANKERS)
def test_conformance_of_what_is_not_trained(method: str, check: Callable[[BuildRanker], None]) -> None:
    cls = CLASSES[method]
    check(lambda items, history_length: cls(items, history_length, **features(cls, items)))


@pytest.mark.parametrize("method", METHODS)
def test_published_parameters_build_it(method: str) -> None:
    """Those that are not the task's."""
    found = CATALOG.find(method)
    assert found.published
    for published in found.published:
        own = {k: value for k, value in published.parameters.items() if k not in NextItemSettings.model_fields}
        assert checked(CLASSES[method], own, method)


def test_the_baselines_without_text_are_here() -> None:
    expected = {"gru4rec", "sasrec", "bert4rec", "cl4srec", "caser", "hgn", "diffrec", "diffurec", "dreamrec"}
    assert expected | {"preferdiff"} <= set(METHODS)
    assert {"popularity", "item_knn", "nearest_text"} <= set(RANKERS)
    assert set(WITH_USERS) == {"caser", "hgn", "tiger"}
    assert {("diffurec", encoder) for encoder in ("transformer", "gru")} <= set(CASES)
