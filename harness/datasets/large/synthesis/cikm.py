"""A stand-in for CIKM 2019 EComm AI. Published are the numbers of rows, users and items alone.

Ours are: a purchase in 2.2 % of the rows and the other behaviors' shares, the numbers of categories, shops and brands,
how often each occurs, the users' fields and their values, and sixteen days. Every user and item has a profile. Fewer
rows have as many fewer users, items, categories, shops and brands. In a world of fewer rows than are drawn, all occur
more often.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness.datasets.large.synthesis.marginals import Tail, dealt, in_proportion, log_normal, long_tail, scaled
from harness.datasets.large.synthesis.world import World, plant, sigmoid

ROW_FILE, ITEM_FILE, USER_FILE = "user_behavior.csv", "item.csv", "user.csv"
ROWS, USERS, ITEMS = 62_428_486, 1_050_000, 3_934_201
ITEM_VALUES = {"category": 9_000, "shop": 700_000, "brand": 200_000}
USER_VALUES = {"gender": (0, 3), "age": (0, 8), "purchasing_power": (1, 9)}
"""The first value of each field and how many there are."""
BUY_RATE = 0.022
BEHAVIORS = ("pv", "fav", "cart", "buy")
OTHER_SHARES = (0.914, 0.029, 0.057)
SECONDS = 16 * 86_400

ITEM_TAIL = Tail(share=0.012, above=200, exponent=1.6)
USER_SIGMA = 1.3


def cikm_world(rows: int, seed: int, world_rows: int | None = None) -> World:
    """Return the world of this many rows, with the users and items of as many, or of another number of rows."""
    random = np.random.default_rng([seed, 0])
    world_rows = world_rows or rows
    share = world_rows / ROWS
    users, items = scaled(USERS, share), scaled(ITEMS, share)
    return plant(
        rows,
        seed,
        BUY_RATE,
        user_fields={name: first + random.integers(0, n, users) for name, (first, n) in USER_VALUES.items()},
        item_fields={name: dealt(random, items, scaled(number, share)) for name, number in ITEM_VALUES.items()},
        user_rows=log_normal(rows, users, USER_SIGMA),
        item_rows=in_proportion(rows, long_tail(world_rows, items, ITEM_TAIL)),
        position_shares=(1.0,),
    )


def cikm_rows(world: World, first: int, after: int) -> tuple[Any, NDArray[np.float32], NDArray[np.bool_]]:
    """Return the lines first … after-1 of `user_behavior.csv` as an Arrow table, their logits and purchases."""
    random = np.random.default_rng([world.seed, 2, first])
    number = after - first
    user_R, item_R = world.pairs(np.arange(first, after))
    logit_R = world.logits(user_R, item_R, np.zeros(number, dtype=np.int8))
    bought_R = random.random(number) < sigmoid(logit_R.astype(np.float64))
    other_R = np.searchsorted(np.cumsum(OTHER_SHARES)[:-1], random.random(number), side="right")
    behavior_R = np.where(bought_R, BEHAVIORS.index("buy"), other_R).astype(np.int8)
    behaviors = pa.DictionaryArray.from_arrays(pa.array(behavior_R), pa.array(BEHAVIORS))
    table = pa.table(
        {
            "user": user_R + 1,
            "item": item_R + 1,
            "behavior": behaviors.cast(pa.string()),
            "timestamp": random.integers(0, SECONDS, number),
        }
    )
    return table, logit_R, bought_R


def cikm_profiles(world: World) -> dict[str, Any]:
    """Return the lines of `item.csv` and `user.csv` as Arrow tables, in no order."""
    random = np.random.default_rng([world.seed, 3])
    items = {name: values + 1 for name, values in world.item_fields.items()}
    return {ITEM_FILE: _lines("item", items, random), USER_FILE: _lines("user", world.user_fields, random)}


def _lines(key: str, fields: Mapping[str, NDArray[np.int64]], random: np.random.Generator) -> Any:
    number = len(next(iter(fields.values())))
    return pa.table({key: np.arange(1, number + 1), **fields}).take(random.permutation(number))
