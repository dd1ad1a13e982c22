"""Avazu's click-through rate challenge (Kaggle 2014): 23 columns of categories, and a sample of it.

Comma-separated: id, click, hour (YYMMDDHH), and 21 categories. The id is left out; the hour becomes the hour of the day
and the day of the week. Values that occur once only are one (as in BARS' Avazu_x4). No column is named an item; the
backbones need one to be, and C14, which goes with the advertisement, is it.
"""

from __future__ import annotations

import datetime

from harness.datasets.click_logs import encode_texts, integers, labels, read_log
from harness.datasets.click_split import click_contents
from harness.datasets.raw import Dataset, KnownFile, RawFiles
from harness.datasets.writing import Contents
from harness.errors import DataError

ITEM = "C14"
CATEGORIES = (
    *("C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category"),
    *("device_id", "device_ip", "device_model", "device_type", "device_conn_type"),
    *(f"C{number}" for number in range(14, 22)),
)
COLUMNS = ("id", "click", "hour", *CATEGORIES)
FIRST = ("device_ip", ITEM)
"""They stand where a click dataset has its users and items."""
AT_LEAST = 2

LAYOUT = {"train.csv": KnownFile(40_428_968)}
SAMPLE_LAYOUT = {
    "train.csv": KnownFile(8_088, ("49fb8cdcadfd9030a6fcb8cd97fe8205d94b84723ee8292e229d741ce1362e4f",)),
    "dev.csv": KnownFile(480, ("1dbd14ef356202a106766d175ab20dfa182838c8cf77e6b018dd18df05c7e757",)),
    "test.csv": KnownFile(432, ("9c81e37b0766fb1daa430706c0c8188046e6daf6a295ab667687d87dada32f35",)),
}


def parse(files: RawFiles) -> Contents:
    """Return the contents; of several files, taken one after the other, the first alone has a header.

    Raises:
        DataError: a line cannot be read.
    """
    names = ", ".join(files)
    log = read_log(list(files.values()), COLUMNS, ",", headers=[position == 0 for position in range(len(files))])
    ordered = (*FIRST, *(name for name in CATEGORIES if name not in FIRST))
    categories = [
        encode_texts(name, "item_id" if name == ITEM else "context", log[name], at_least=AT_LEAST) for name in ordered
    ]
    return click_contents(
        row_columns=(
            *categories,
            encode_texts("hour", "context", log["hour"], meaning=lambda text: str(_time(text).hour)),
            encode_texts("weekday", "context", log["hour"], meaning=lambda text: str(_time(text).weekday())),
        ),
        time_R=integers(names, "hour", log["hour"]),
        label_R=labels(names, log["click"]),
    )


def _time(text: str) -> datetime.datetime:
    """Return the time of an hour YYMMDDHH.

    Raises:
        DataError: it is none.
    """
    try:
        if len(text) == 8:  # `strptime` takes fewer digits too
            return datetime.datetime.strptime(text, "%y%m%d%H")
    except ValueError:
        pass
    raise DataError(f"avazu: hour {text!r}, YYMMDDHH expected")


DATASETS = (
    Dataset(
        name="avazu",
        title="Avazu click-through rate challenge, by time or at random 8:1:1",
        kind="interactions",
        folder="avazu",
        source="train.csv, unpacked, of Kaggle's avazu-ctr-prediction (its rules)",
        layouts=(LAYOUT,),
        parse=parse,
        facts={"rows": 40_428_967},
        counts_suffice=True,
    ),
    Dataset(
        name="avazu-sample",
        title="8,999 rows of Avazu, to try a method out",
        kind="interactions",
        folder="avazu-sample",
        source="train.csv, dev.csv and test.csv with 8,999 rows of Avazu's train.csv",
        layouts=(SAMPLE_LAYOUT,),
        parse=parse,
        facts={"rows": 8_999},
    ),
)
