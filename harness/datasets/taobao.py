"""Taobao Display Ad Click: 26.6 million impressions over nine days, for cold start (N = 2000, K = 500) and for CTR.

Fields: users have the eight of `user_profile.csv`, items the category, campaign, customer, brand and price of
`ad_feature.csv`, rows the position `pid`. Published facts of the files are from the dataset's page; the numbers of base
and new rows are those that CVAR's program prints.
"""

from __future__ import annotations

from harness.datasets.large.description import Clicks, ColdStart, LargeDataset, Profiles
from harness.datasets.large.formats import ColumnFormat, LineFormat

ROWS = LineFormat(
    "raw_sample.csv",
    (
        ColumnFormat("user"),
        ColumnFormat("time_stamp"),
        ColumnFormat("adgroup_id"),
        ColumnFormat("pid", "word", words="[0-9]{1,9}_[0-9]{1,9}"),
        ColumnFormat("nonclk", "flag"),
        ColumnFormat("clk", "flag"),
    ),
    header="user,time_stamp,adgroup_id,pid,nonclk,clk",
    needed=("user", "time_stamp", "adgroup_id", "pid", "clk"),
)
ADS = Profiles(
    LineFormat(
        "ad_feature.csv",
        (
            ColumnFormat("adgroup_id"),
            *(ColumnFormat(name, optional=True) for name in ("cate_id", "campaign_id", "customer", "brand")),
            ColumnFormat("price", "decimal", optional=True),
        ),
        header="adgroup_id,cate_id,campaign_id,customer,brand,price",
    ),
    key="adgroup_id",
    categories={"category": "cate_id", "campaign": "campaign_id", "customer": "customer", "brand": "brand"},
    amounts={"price": "price"},
)
USER_FIELDS = {
    "cms_segid": "cms_segid",
    "cms_group_id": "cms_group_id",
    "gender": "final_gender_code",
    "age_level": "age_level",
    "pvalue_level": "pvalue_level",
    "shopping_level": "shopping_level",
    "occupation": "occupation",
    "new_user_class_level": "new_user_class_level",
}
USERS = Profiles(
    LineFormat(
        "user_profile.csv",
        (ColumnFormat("userid"), *(ColumnFormat(name, optional=True) for name in USER_FIELDS.values())),
        header=",".join(["userid", *USER_FIELDS.values()]) + " ",  # the official header ends in a blank
    ),
    key="userid",
    categories=USER_FIELDS,
    amounts={},
)
FILES = {"rows": 26_557_961, "users": 1_141_729, "items": 846_811}
SPLITS = {"base": 3_592_047, "warm_a": 270_500, "warm_b": 270_500, "warm_c": 270_500, "test": 109_712}


def _taobao(name: str, title: str, protocol: ColdStart | Clicks, facts: dict[str, int]) -> LargeDataset:
    return LargeDataset(
        name=name,
        title=title,
        folder="taobao",
        source="raw_sample.csv, ad_feature.csv and user_profile.csv of Alibaba's Ad Display/Click Data (research use)",
        rows=ROWS,
        user="user",
        item="adgroup_id",
        time="time_stamp",
        label="clk",
        positive="",
        context={"pid": "pid"},
        users=USERS,
        items=ADS,
        protocol=protocol,
        facts=facts,
    )


DATASETS = (
    _taobao(
        "taobao",
        "Taobao display ads, cold start with N = 2000, K = 500",
        ColdStart(hot_above=2000, block=500),
        {**FILES, **SPLITS, "new_items": 541},
    ),
    _taobao("taobao-ctr", "Taobao display ads for click-through rates, by time or at random 8:1:1", Clicks(), FILES),
)
