"""From the item embeddings that trials learned to what a projection shows of them.

Legend: I items, D embedding size, N items shown, K dimensions shown.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from harness.errors import InputError
from harness.methods import MethodCatalog, load_class
from harness.projections import Projection
from harness.schedule import Schedule
from harness.store import Store
from harness.table_specs import Drawing, TableSpec
from harness.trial import load_checkpoint
from trainables.base import NextItemModel, NextItemRanker

EMBEDDING = "embedding.weight"
SHOWN_ITEMS = 2000
"""Drawn at random, the same ones for every trial on a dataset (PreferDiff E.4)."""
SHOWN_DIMENSIONS = 64
"""The first ones: dimensions have no order, and a covariance of 3072 is nine million numbers."""


def t_sne(embedding_ID: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the plane coordinates of random items, by scikit-learn's t-SNE with its defaults, float32 [N, 2]."""
    from sklearn.manifold import TSNE  # type: ignore[import-untyped]

    items = len(embedding_ID)
    chosen_N = np.sort(np.random.default_rng(0).choice(items, min(SHOWN_ITEMS, items), replace=False))
    perplexity = min(30.0, (len(chosen_N) - 1) / 3)
    reduction = TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=0)
    return np.asarray(reduction.fit_transform(embedding_ID[chosen_N]), dtype=np.float32)


def covariance(embedding_ID: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the covariance of the first dimensions over all items, float32 [K, K]."""
    return np.atleast_2d(np.cov(embedding_ID[:, :SHOWN_DIMENSIONS], rowvar=False)).astype(np.float32)


_DRAWN = {"t_sne": t_sne, "covariance": covariance}


def check_drawable(drawing: Drawing) -> None:
    """Check that what a drawing needs is installed.

    Raises:
        InputError: scikit-learn is not.
    """
    if drawing == "t_sne" and importlib.util.find_spec("sklearn") is None:
        raise InputError("figure: t_sne needs scikit-learn; run `pip install scikit-learn`")


def check_learned(table: TableSpec, catalog: MethodCatalog) -> None:
    """Check that every row's method learns something, before anything runs; rankers may have nothing to train.

    Raises:
        InputError: a row's method learns nothing.
    """
    for row in table.rows:
        cls = object if row.method is None else load_class(catalog.find(row.method))
        if issubclass(cls, NextItemRanker) and not issubclass(cls, NextItemModel):
            raise InputError(f"rows.{row.name}: its method learns nothing, so there is nothing to project; remove it")


def project(schedule: Schedule, store: Store, known: Iterable[Projection]) -> list[Projection]:
    """Return a projection of each finished line's first seed; those that are known of the same trial are not redone.

    Raises:
        InputError: a model has no item embeddings.
        StoreError: the store cannot be read.
    """
    table = schedule.request.table
    done = {(old.place, old.trial_id): old for old in known}
    projections = []
    for line in schedule.lines:
        spec = line.repeats.get(table.seeds[0])
        if spec is None or spec.id not in line.results or line.results[spec.id].status == "failed":
            continue
        place = line.dataset.name, line.row.name, line.selection
        if (place, spec.id) not in done:
            embedding_ID = _embedding(load_checkpoint(spec, store), line.row.name)
            done[place, spec.id] = Projection(*place, spec.id, _drawn(embedding_ID, table.drawing))
        projections.append(done[place, spec.id])
    return projections


def _drawn(embedding_ID: NDArray[np.float32], drawing: Drawing) -> NDArray[np.float32]:
    return _DRAWN[drawing](embedding_ID)


def _embedding(state: Mapping[str, Tensor], row: str) -> NDArray[np.float32]:
    if EMBEDDING not in state:
        raise InputError(f"rows.{row}: its method learns no {EMBEDDING!r}, so there is nothing to project; remove it")
    return state[EMBEDDING].float().numpy()
