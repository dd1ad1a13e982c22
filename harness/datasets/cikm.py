"""CIKM 2019 EComm AI: 62.4 million events, for cold start (N = 200, K = 50) and for CTR; a purchase is positive.

The files have no header. The timestamp counts seconds from a beginning that is not told, so hours and weekdays are
those of that count.
"""

from __future__ import annotations

from harness.datasets.large.description import Clicks, ColdStart, LargeDataset, Profiles
from harness.datasets.large.formats import ColumnFormat, LineFormat

ROWS = LineFormat(
    "user_behavior.csv",
    (
        ColumnFormat("user"),
        ColumnFormat("item"),
        ColumnFormat("behavior", "word", words="pv|fav|cart|buy"),
        ColumnFormat("timestamp"),
    ),
)
ITEMS = Profiles(
    LineFormat(
        "item.csv",
        (ColumnFormat("item"), *(ColumnFormat(name, optional=True) for name in ("category", "shop", "brand"))),
    ),
    key="item",
    categories={name: name for name in ("category", "shop", "brand")},
    amounts={},
)
USERS = Profiles(
    LineFormat(
        "user.csv",
        (ColumnFormat("user"), *(ColumnFormat(name, optional=True) for name in ("gender", "age", "purchasing_power"))),
    ),
    key="user",
    categories={name: name for name in ("gender", "age", "purchasing_power")},
    amounts={},
)
FACTS = {"rows": 62_428_486, "users": 1_050_000, "items": 3_934_201}


def _cikm(name: str, title: str, protocol: ColdStart | Clicks) -> LargeDataset:
    return LargeDataset(
        name=name,
        title=title,
        folder="cikm",
        source="user_behavior.csv, user.csv and item.csv of the CIKM 2019 EComm AI challenge (its terms: research use)",
        rows=ROWS,
        user="user",
        item="item",
        time="timestamp",
        label="behavior",
        positive="buy",
        context={},
        users=USERS,
        items=ITEMS,
        protocol=protocol,
        facts=FACTS,
    )


DATASETS = (
    _cikm("cikm", "CIKM 2019 EComm AI, cold start with N = 200, K = 50", ColdStart(hot_above=200, block=50)),
    _cikm("cikm-ctr", "CIKM 2019 EComm AI for click-through rates, by time or at random 8:1:1", Clicks()),
)
