"""Small files in Taobao's format, and what preparing them must give, computed in memory from plain lists.

Legend: R rows.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.datasets import catalog
from harness.datasets.click_split import time_split
from harness.datasets.cold_start_split import SPLIT_CODES, split_rows, validation_split_rows
from harness.datasets.large.description import Clicks, ColdStart, LargeDataset
from harness.datasets.large.row_numbers import SHUFFLE, hash_rows, tenths
from harness.datasets.parts import first_columns, part_files, read_groups, rows_of_groups
from harness.datasets.prepared import PreparedDataset

BEYOND = 10**9
"""Above every raw value: an empty value becomes this, one of a profile that is missing the next."""
DAY = 86_400


def small_ads(protocol: ColdStart | Clicks) -> LargeDataset:
    found = catalog.find("taobao")
    assert isinstance(found, LargeDataset)
    return replace(found, name="small", protocol=protocol, facts={})


def write_small_ads(folder: Path, *, rows: int = 4_000, seed: int = 0) -> Path:
    """Write three files: some ads and users without a profile or with two, empty values, many equal times."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    ads = 100 + random.permutation(60) * 7
    users = random.permutation(5_000)[:300]
    ad_R = random.choice(ads, rows, p=1 / np.arange(1, 61) / (1 / np.arange(1, 61)).sum())
    user_R = random.choice(users, rows)
    time_R = 1_494_000_000 + random.integers(0, 2_000, rows) * 345
    pid_R = random.choice(["430548_1007", "430539_1007"], rows)
    click_R = random.integers(0, 2, rows)
    with (folder / "raw_sample.csv").open("w") as file:
        file.write("user,time_stamp,adgroup_id,pid,nonclk,clk\n")
        for user, time, ad, pid, click in zip(user_R, time_R, ad_R, pid_R, click_R, strict=True):
            file.write(f"{user},{time},{ad},{pid},{1 - click},{click}\n")
    with (folder / "ad_feature.csv").open("w") as file:
        file.write("adgroup_id,cate_id,campaign_id,customer,brand,price\n")
        for ad in [*ads[:55], ads[3], 9_999_999]:
            brand = "NULL" if ad % 3 == 0 else random.integers(1, 9)
            price = "" if ad % 11 == 0 else round(float(np.exp(random.normal(4, 3))), 2)
            category, campaign, customer = random.integers(0, [20, 99, 9])
            file.write(f"{ad},{category},{campaign},{customer},{brand},{price}\n")
    with (folder / "user_profile.csv").open("w") as file:
        file.write(
            "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,occupation,"
            "new_user_class_level \n"
        )
        for user in [*users[:270], users[5], 6_000]:
            values = [str(random.integers(0, 9)) if random.random() < 0.8 else "" for _ in range(8)]
            file.write(f"{user},{','.join(values)}\n")
    return folder


@dataclass(frozen=True)
class Expected:
    """Rows of the file in its order: every field's values, the label, and the rows that each split has."""

    columns: dict[str, NDArray[np.float64]]
    splits: dict[str, NDArray[np.int64]]


def expected_of(folder: Path, dataset: LargeDataset) -> Expected:
    """Return what the preparation must give, joined and encoded one row at a time."""
    rows = list(csv.DictReader((folder / "raw_sample.csv").open()))
    profiles: dict[str, dict[int, dict[str, str]]] = {"ad_feature.csv": {}, "user_profile.csv": {}}
    for name, known in profiles.items():
        for line in csv.DictReader((folder / name).open()):
            line = {key.strip(): value for key, value in line.items()}
            known.setdefault(int(next(iter(line.values()))), line)
    raw: dict[str, list[float]] = {"user_id": [], "item_id": [], "label": []}
    for row in rows:
        raw["user_id"].append(int(row["user"]))
        raw["item_id"].append(int(row["adgroup_id"]))
        raw["label"].append(int(row["clk"]))
        raw.setdefault("pid", []).append(int(row["pid"].split("_")[0]))
        for described, key, file in (
            (dataset.users, int(row["user"]), "user_profile.csv"),
            (dataset.items, int(row["adgroup_id"]), "ad_feature.csv"),
        ):
            for field, column in described.categories.items():
                raw.setdefault(field, []).append(_category(profiles[file].get(key), column))
        price = profiles["ad_feature.csv"].get(int(row["adgroup_id"]), {}).get("price", "")
        raw.setdefault("price", []).append(math.log1p(float(price)) if price else math.nan)
    time_R = np.array([int(row["time_stamp"]) for row in rows])
    item_R = np.array(raw["item_id"])
    columns = {name: np.array(values, dtype=np.float64) for name, values in raw.items()}
    price_R = columns["price"]
    low, high = np.nanmin(price_R), np.nanmax(price_R)
    columns["price"] = np.nan_to_num((price_R - low) / (high - low))
    columns["timestamp"] = (time_R - time_R.min()) / (time_R.max() - time_R.min())
    count_R = np.array([(item_R == item).sum() for item in item_R])
    columns["count"] = count_R / count_R.max()
    columns["hour"], columns["weekday"] = time_R % DAY // 3600, (time_R // DAY + 4) % 7
    for name in columns:
        if name not in ("label", "price", "timestamp", "count"):
            columns[name] = np.unique(columns[name], return_inverse=True)[1].astype(np.float64)
    return Expected(columns, _splits(columns["item_id"].astype(np.int64), time_R, dataset))


def _category(profile: dict[str, str] | None, column: str) -> int:
    if profile is None:
        return BEYOND + 1
    return BEYOND if profile[column] in ("", "NULL") else int(profile[column])


def _splits(
    item_R: NDArray[np.int64], time_R: NDArray[np.int64], dataset: LargeDataset
) -> dict[str, NDArray[np.int64]]:
    if isinstance(dataset.protocol, Clicks):
        random_R = np.array([0] * 8 + [1, 2])[tenths(np.arange(len(item_R)))]
        of = {"time": time_split(time_R), "random": random_R}
        names = ("train", "validation", "test")
        return {f"{kind}_{name}": np.flatnonzero(of[kind] == i) for kind in of for i, name in enumerate(names)}
    hot_above, block = dataset.protocol.hot_above, dataset.protocol.block
    split_R = split_rows(item_R, time_R, hot_above=hot_above, block=block)
    validation_R = validation_split_rows(item_R, time_R, split_R, block=block)
    found = {name: np.flatnonzero(split_R == code) for name, code in SPLIT_CODES.items()}
    return found | {f"validation_{name}": np.flatnonzero(validation_R == code) for name, code in SPLIT_CODES.items()}


def shuffled(row_R: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return row numbers in the order of their hashes."""
    return row_R[np.argsort(hash_rows(row_R, SHUFFLE))]


def stored(prepared: PreparedDataset, paths: list[Path]) -> dict[str, NDArray[np.float64]]:
    """Return all columns of files of packed rows, one file after the other; of quarters, [R, 4]."""
    packed = np.concatenate([read_groups(path, range(len(rows_of_groups(path)))) for path in paths])
    firsts = [*first_columns(prepared.fields)]
    width = firsts[-1] + 2
    columns = {}
    for name, first in [*zip([field.name for field in prepared.fields], firsts, strict=True), ("label", width - 1)]:
        values = np.ascontiguousarray(packed[:, first::width])
        number = name == "label" or next(field for field in prepared.fields if field.name == name).kind == "number"
        numbers = (values.view(np.float32) if number else values).astype(np.float64)
        columns[name] = numbers[:, 0] if numbers.shape[1] == 1 else numbers
    return columns


def files_of(prepared: PreparedDataset, atom: str) -> list[Path]:
    """Return the files of one atom."""
    return part_files(prepared.folder, [atom])
