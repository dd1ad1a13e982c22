"""A stand-in for Taobao Display Ad Click with the published marginals.

At full size it has the published numbers of rows, users, profiles, ads, campaigns, customers and empty values, and
about the published numbers of base rows and new items for N = 2000, K = 500. Fewer rows have as many fewer users, ads
and categories, so that each occurs as often as in the whole: hot and new items become fewer in proportion, about one
new item in 50,000 rows. The number of brands, and how often users and categories occur, are ours. In a world of fewer
rows than are drawn, all occur more often.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness.datasets.large.synthesis.marginals import (
    Tail,
    dealt,
    in_proportion,
    log_normal,
    long_tail,
    scaled,
    without,
)
from harness.datasets.large.synthesis.world import World, plant, sigmoid

ROW_FILE, AD_FILE, USER_FILE = "raw_sample.csv", "ad_feature.csv", "user_profile.csv"
ROWS, USERS, PROFILES, ADS = 26_557_961, 1_141_729, 1_061_768, 846_811
CATEGORIES, CAMPAIGNS, CUSTOMERS, BRANDS = 6_769, 423_436, 255_875, 99_815
NO_BRAND, NO_PVALUE, NO_CLASS = 0.2909, 0.5424, 0.3249
CLICK_RATE = 0.0514
POSITIONS = ("430548_1007", "430539_1007")
POSITION_SHARES = (10.09, 16.47)
FIRST_SECOND, LAST_SECOND = 1_494_000_000, 1_494_691_199
"""Nine calendar days: the 5th to the 13th of May 2017 (UTC)."""
CHEAPEST, DEAREST = 0.01, 99_999_999.0

AD_TAIL = Tail(share=797 / ADS, above=2000, exponent=1.8)
"""What gives the published 3,592,047 base rows and 541 new items."""
USER_SIGMA = 1.2

EMPTY, NO_PROFILE = -1, -2
"""What stands for a value that is left out, and for all values of a user without a profile."""
USER_VALUES = {
    "cms_segid": (0, 97),
    "cms_group_id": (0, 13),
    "final_gender_code": (1, 2),
    "age_level": (0, 7),
    "pvalue_level": (1, 3),
    "shopping_level": (1, 3),
    "occupation": (0, 2),
    "new_user_class_level": (1, 4),
}
"""The first value of each field and how many there are."""


def taobao_world(rows: int, seed: int, world_rows: int | None = None) -> World:
    """Return the world of this many rows, with the users and ads of as many, or of another number of rows."""
    random = np.random.default_rng([seed, 0])
    world_rows = world_rows or rows
    share = world_rows / ROWS
    users, ads = (scaled(number, share) for number in (USERS, ADS))
    ad_fields = {
        "cate_id": dealt(random, ads, scaled(CATEGORIES, share)),
        "campaign_id": dealt(random, ads, scaled(CAMPAIGNS, share)),
        "customer": dealt(random, ads, scaled(CUSTOMERS, share)),
        "brand": without(random, dealt(random, ads, scaled(BRANDS, share)), NO_BRAND),
    }
    none = {"pvalue_level": NO_PVALUE, "new_user_class_level": NO_CLASS}
    has_profile = random.permutation(users) < round(users * PROFILES / USERS)
    user_fields = {}
    for name, (first, number) in USER_VALUES.items():
        value_U = first + random.integers(0, number, users)
        value_U[has_profile] = without(random, value_U[has_profile], none.get(name, 0.0))
        user_fields[name] = np.where(has_profile, value_U, NO_PROFILE)
    world = plant(
        rows,
        seed,
        CLICK_RATE,
        user_fields={name: np.maximum(values, EMPTY) for name, values in user_fields.items()},
        item_fields=ad_fields,
        user_rows=log_normal(rows, users, USER_SIGMA),
        item_rows=in_proportion(rows, long_tail(world_rows, ads, AD_TAIL)),
        position_shares=POSITION_SHARES,
    )
    return replace(world, user_fields=user_fields)


def taobao_rows(world: World, first: int, after: int) -> tuple[Any, NDArray[np.float32], NDArray[np.bool_]]:
    """Return the lines first … after-1 of `raw_sample.csv` as an Arrow table, their logits and their clicks."""
    random = np.random.default_rng([world.seed, 2, first])
    number = after - first
    user_R, ad_R = world.pairs(np.arange(first, after))
    position_R = (random.random(number) * sum(POSITION_SHARES) >= POSITION_SHARES[0]).astype(np.int8)
    time_R = random.integers(FIRST_SECOND, LAST_SECOND + 1, number)
    logit_R = world.logits(user_R, ad_R, position_R)
    click_R = random.random(number) < sigmoid(logit_R.astype(np.float64))
    positions = pa.DictionaryArray.from_arrays(pa.array(position_R), pa.array(POSITIONS))
    table = pa.table(
        {
            "user": user_R + 1,
            "time_stamp": time_R,
            "adgroup_id": ad_R + 1,
            "pid": positions.cast(pa.string()),
            "nonclk": (~click_R).astype(np.int8),
            "clk": click_R.astype(np.int8),
        }
    )
    return table, logit_R, click_R


def taobao_profiles(world: World) -> dict[str, Any]:
    """Return the lines of `ad_feature.csv` and `user_profile.csv` as Arrow tables, in no order."""
    random = np.random.default_rng([world.seed, 3])
    return {AD_FILE: _ad_lines(world, random), USER_FILE: _user_lines(world, random)}


def _ad_lines(world: World, random: np.random.Generator) -> Any:
    ads = world.items
    price_I = np.clip(np.round(np.exp(random.normal(5.3, 1.6, ads)), 2), CHEAPEST, DEAREST)
    price_I[:2] = CHEAPEST, DEAREST
    fields = {name: pa.array(values + 1, mask=values == EMPTY) for name, values in world.item_fields.items()}
    fields["brand"] = fields["brand"].cast(pa.string()).fill_null("NULL")
    price = pa.array([repr(price) for price in price_I.tolist()])  # 170.0, where Arrow would write 170
    lines = pa.table({"adgroup_id": np.arange(1, ads + 1), **fields, "price": price})
    return lines.take(random.permutation(ads))


def _user_lines(world: World, random: np.random.Generator) -> Any:
    known_U = random.permutation(np.flatnonzero(world.user_fields["cms_segid"] != NO_PROFILE))
    fields = {name: values[known_U] for name, values in world.user_fields.items()}
    empty = {name: pa.array(values, mask=values == EMPTY) for name, values in fields.items()}
    return pa.table({"userid": known_U + 1, **empty})
