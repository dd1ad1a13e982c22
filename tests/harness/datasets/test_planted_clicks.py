"""The generated stand-ins: marginals, order, and the click model that is planted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from harness.datasets import catalog, cikm, taobao
from harness.datasets.large.description import LargeDataset
from harness.datasets.large.formats import MISSING
from harness.datasets.large.preparation import prepare_large
from harness.datasets.large.reading import ByteRange, read_range
from harness.datasets.large.synthesis import cikm as events
from harness.datasets.large.synthesis import taobao as ads
from harness.datasets.large.synthesis.about import read_synthetic
from harness.datasets.large.synthesis.catalog import synthesize
from harness.datasets.large.synthesis.marginals import log_normal, long_tail, permuted, zipf
from harness.datasets.large.synthesis.optimum import planted_auc, world_of
from harness.datasets.large.synthesis.world import TASTE, sigmoid
from harness.datasets.large.synthesis.writing import CHUNK_ROWS, binned_auc
from harness.datasets.large.tasks import ray_for_data
from harness.datasets.prepared import PreparedDataset, Schema, SplitSchema, open_prepared
from harness.errors import DataError, InputError
from harness.metrics.auc import auc
from harness.tasks.context import Component, Context, Purpose
from harness.tasks.ctr import Ctr, CtrSettings
from trainables.base import no_log
from trainables.ctr.deepfm import DeepFM
from trainables.ctr.supervised import Supervised

ROWS = 300_000  # more than one chunk
TIME = ("time_train", "time_validation", "time_test")


def silent(line: str) -> None: ...


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with ray_for_data(None, 100 << 20):
        made = tmp_path_factory.mktemp("made")
        synthesize("taobao", made / "taobao", silent, rows=ROWS, seed=3)
        synthesize("cikm", made / "cikm", silent, rows=20_000, seed=3)
        yield made


def whole(path: Path) -> ByteRange:
    return ByteRange(path, 0, 0, path.stat().st_size)


def test_the_long_tail_at_full_size_is_the_published_one() -> None:
    count_I = long_tail(ads.ROWS, ads.ADS, ads.AD_TAIL)
    assert count_I.sum() == 26_557_961 and len(count_I) == 846_811 and count_I.min() == 1
    base, new = count_I[count_I > 2000], count_I[(count_I >= 1500) & (count_I <= 2000)]
    assert base.sum() == pytest.approx(3_592_047, rel=0.03)
    assert len(new) == pytest.approx(541, abs=5)
    assert (new - 1500).sum() == pytest.approx(109_712, rel=0.1)
    for counts, total in ((zipf(50_000, 700), 50_000), (log_normal(50_000, 2_000, ads.USER_SIGMA), 50_000)):
        assert counts.min() >= 1 and counts.sum() == total and counts[0] > 10 * counts[-1]


@pytest.mark.parametrize("size", [2, 3, 17, 4096, 4097, 30_000])
def test_the_hidden_order_is_a_permutation(size: int) -> None:
    first, second = (permuted(np.arange(size), size, key) for key in (1, 2))
    assert np.array_equal(np.sort(first), np.arange(size))
    if size > 1000:
        assert abs(np.corrcoef(first, np.arange(size))[0, 1]) < 0.05 and abs(np.corrcoef(first, second)[0, 1]) < 0.05
    assert permuted(np.arange(size)[-1:], size, 1)[0] == first[-1], "a row's place does not depend on the others"


def test_files_are_read_as_official_ones_with_the_published_shares(folder: Path) -> None:
    read = {lines.file: read_range(whole(folder / "taobao" / lines.file), lines) for lines in (
        taobao.ROWS, taobao.ADS.lines, taobao.USERS.lines
    )}  # fmt: skip
    assert [rows.malformed for rows in read.values()] == [0, 0, 0]
    rows, ad_lines, users = (of_file.columns for of_file in read.values())
    about = read_synthetic(folder / "taobao")
    assert about is not None and about["rows"] == ROWS == len(rows["clk"])
    assert rows["clk"].mean() == pytest.approx(0.0514, abs=0.002) and about["positives"] == rows["clk"].sum()
    assert len(np.unique(rows["user"])) == about["users"] == rows["user"].max()
    assert len(np.unique(rows["adgroup_id"])) == about["items"] == len(ad_lines["adgroup_id"])
    first_position = read["raw_sample.csv"].words["pid"].index("430548_1007")
    assert (rows["pid"] == first_position).mean() == pytest.approx(10.09 / 26.56, abs=0.005)
    assert np.unique(rows["time_stamp"] // 86_400).tolist() == [17_291 + day for day in range(9)]
    assert len(users["userid"]) == round(about["users"] * 1_061_768 / 1_141_729)
    for name, share in (("pvalue_level", 0.5424), ("new_user_class_level", 0.3249), ("age_level", 0.0)):
        assert (users[name] == MISSING).mean() == pytest.approx(share, abs=1e-3)
    assert (ad_lines["brand"] == MISSING).mean() == pytest.approx(0.2909, abs=1e-3)
    assert (ad_lines["price"].min(), ad_lines["price"].max()) == (0.01, 99_999_999.0)
    events_read = read_range(whole(folder / "cikm" / "user_behavior.csv"), cikm.ROWS)
    words = np.array(events_read.words["behavior"])
    assert events_read.malformed == 0 and set(words) == {"pv", "fav", "cart", "buy"}
    assert (words[events_read.columns["behavior"]] == "buy").mean() == pytest.approx(events.BUY_RATE, abs=0.004)


def test_the_planted_optimum_is_the_auc_of_the_true_probability(folder: Path) -> None:
    rows = read_range(whole(folder / "taobao" / "raw_sample.csv"), taobao.ROWS)
    world = ads.taobao_world(ROWS, 3)
    position_R = np.array([ads.POSITIONS.index(word) for word in rows.words["pid"]])[rows.columns["pid"]]
    logit_R = world.logits(rows.columns["user"] - 1, rows.columns["adgroup_id"] - 1, position_R)
    about = json.loads((folder / "taobao" / "synthetic.json").read_text())
    assert auc(logit_R, rows.columns["clk"]) == pytest.approx(about["planted_auc"], abs=1e-4)
    assert 0.65 < about["planted_auc"] < 0.85
    assert sigmoid(logit_R).sum() == pytest.approx(about["positives"], abs=4 * about["positives"] ** 0.5)
    # calibrated: among rows of like probability, as many are clicked as that probability says
    tenth_R = np.searchsorted(np.quantile(logit_R, np.arange(1, 10) / 10), logit_R)
    for tenth in range(10):
        chosen = tenth_R == tenth
        expected = float(sigmoid(logit_R[chosen]).sum())
        assert rows.columns["clk"][chosen].sum() == pytest.approx(expected, abs=4 * expected**0.5)


def test_other_seeds_and_sizes_give_other_rows(folder: Path) -> None:
    one, other = ads.taobao_world(20_000, 0), ads.taobao_world(20_000, 1)
    assert not np.array_equal(one.pairs(np.arange(100))[0], other.pairs(np.arange(100))[0])
    again, _, _ = ads.taobao_rows(ads.taobao_world(ROWS, 3), CHUNK_ROWS, CHUNK_ROWS + 5)
    lines = (folder / "taobao" / "raw_sample.csv").read_text().splitlines()[1 + CHUNK_ROWS : 1 + CHUNK_ROWS + 5]
    assert [line.split(",")[0] for line in lines] == [str(row["user"]) for row in again.to_pylist()]


def test_the_binned_auc_counts_ties_as_half() -> None:
    assert binned_auc(np.array([[0, 1, 2], [2, 1, 0]])) == pytest.approx(auc(
        np.array([1, 2, 2, 0, 0, 1.0]), np.array([1, 1, 1, 0, 0, 0])
    ))  # fmt: skip


def test_what_cannot_be_generated_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'taobo' cannot be generated; did you mean 'taobao'"):
        synthesize("taobo", tmp_path, silent)
    with pytest.raises(InputError, match="--rows 5: at least 10,000"), ray_for_data(None, 100 << 20):
        synthesize("taobao", tmp_path, silent, rows=5)
    for world in (5, 30_000):
        with pytest.raises(InputError, match=f"--world {world}: from 10,000 to the number of rows, 20,000"):
            synthesize("taobao", tmp_path, silent, rows=20_000, world_rows=world)
    (tmp_path / "raw_sample.csv").write_text("user,time_stamp\n")
    with pytest.raises(DataError, match=r"raw_sample\.csv: may be official, as synthetic\.json is not beside it"):
        synthesize("taobao", tmp_path, silent, rows=20_000)
    assert (tmp_path / "raw_sample.csv").read_text() == "user,time_stamp\n"
    (tmp_path / "synthetic.json").write_text("[]")
    with pytest.raises(DataError, match="synthesize the files again"):
        read_synthetic(tmp_path)


def test_files_that_were_replaced_in_part_are_known_to_be_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(path: Path, target: Path) -> Path:
        if target.name == "user_profile.csv":
            raise OSError(28, "No space left on device")
        return original(path, target)

    original = Path.replace
    with ray_for_data(None, 100 << 20):
        synthesize("taobao", tmp_path, silent, rows=20_000, seed=1)
        monkeypatch.setattr(Path, "replace", replace)
        with pytest.raises(DataError, match="No space left on device"):
            synthesize("taobao", tmp_path, silent, rows=20_000, seed=2)
    with pytest.raises(DataError, match=r"synthetic\.json: cannot be used \(unfinished\); synthesize the files again"):
        read_synthetic(tmp_path)


@pytest.mark.parametrize(
    ("name", "split"), [("taobao", "base"), ("taobao-ctr", "time_test"), ("cikm-ctr", "random_train")]
)
def test_the_optimum_of_a_split_is_that_of_its_rows(folder: Path, tmp_path: Path, name: str, split: str) -> None:
    dataset = catalog.find(name)
    assert isinstance(dataset, LargeDataset)
    raw = folder / name.removesuffix("-ctr")
    prepared = prepare_large(tmp_path / name, dataset, raw, silent)
    assert prepared.schema.synthetic and prepared.schema.note.startswith("synthetic: ")
    assert (prepared.schema.users, prepared.schema.items) == (world_of(prepared).users, world_of(prepared).items)
    whole_file = json.loads((raw / "synthetic.json").read_text())
    assert planted_auc(prepared, split) == pytest.approx(whole_file["planted_auc"], abs=0.06)
    if name == "taobao-ctr":  # the three parts of all rows together
        atoms = tuple(atom for split in TIME for atom in prepared.schema.splits[split].atoms)
        splits = {"all": SplitSchema(rows=0, search=False, atoms=atoms)}
        merged = prepared.schema.model_copy(update={"splits": splits})
        found = planted_auc(PreparedDataset(prepared.folder, merged), "all")
        assert found == pytest.approx(whole_file["planted_auc"], abs=1e-5)


def read_rows(folder: Path) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.float64]]:
    """Return the columns of the generated impressions, and the logits of the planted model, term by term."""
    rows = read_range(whole(folder / "raw_sample.csv"), taobao.ROWS)
    world, columns = ads.taobao_world(ROWS, 3), rows.columns
    position_R = np.array([ads.POSITIONS.index(word) for word in rows.words["pid"]])[columns["pid"]]
    user_RD, ad_RD = world.user_vector[columns["user"] - 1], world.item_vector[columns["adgroup_id"] - 1]
    size = TASTE
    logit_R = (user_RD[:, :size].astype(np.float64) * ad_RD[:, :size]).sum(axis=1)
    return columns, logit_R + user_RD[:, size] + ad_RD[:, size + 1] + world.position_logit[position_R]


def late_rows(columns: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the last tenth of the rows by time, equal times in the file's order."""
    return np.argsort(columns["time_stamp"], kind="stable")[ROWS * 9 // 10 :]


def rows_after_three_blocks(columns: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the rows of ads with 1,500 to 2,000 of them that follow an ad's first 1,500 by time."""
    found = []
    for ad, count in zip(*np.unique(columns["adgroup_id"], return_counts=True), strict=True):
        if 1500 <= count <= 2000:
            own = np.flatnonzero(columns["adgroup_id"] == ad)
            found.append(own[np.argsort(columns["time_stamp"][own], kind="stable")][1500:])
    return np.concatenate(found)


@pytest.mark.parametrize(
    ("name", "split", "chosen"),
    [("taobao-ctr", "time_test", late_rows), ("taobao", "test", rows_after_three_blocks)],
)
def test_preparation_records_the_optimum_of_what_is_tested_on(
    folder: Path,
    tmp_path: Path,
    name: str,
    split: str,
    chosen: Callable[[Mapping[str, NDArray[np.int64]]], NDArray[np.int64]],
) -> None:
    dataset = catalog.find(name)
    assert isinstance(dataset, LargeDataset)
    prepared = prepare_large(tmp_path / name, dataset, folder / "taobao", silent)
    assert open_prepared(tmp_path / name).schema == prepared.schema
    columns, logit_R = read_rows(folder / "taobao")
    row_S = chosen(columns)
    known = prepared.schema.splits[split]
    assert known.rows == len(row_S) > 500
    expected = roc_auc_score(columns["clk"][row_S], 1 / (1 + np.exp(-logit_R[row_S])))
    assert known.optimum_auc == pytest.approx(expected, abs=1e-5)
    recorded = {split for split, of_split in prepared.schema.splits.items() if of_split.optimum_auc is not None}
    tested_on = {"taobao-ctr": {"time_test", "random_test"}, "taobao": {"test", "validation_test"}}
    assert split in recorded <= tested_on[name], "what is trained on has none"
    assert "optimum" not in "".join(field.name for field in prepared.fields)


def test_a_trained_model_stays_below_the_optimum_that_its_result_tells(folder: Path, tmp_path: Path) -> None:
    dataset = catalog.find("taobao-ctr")
    assert isinstance(dataset, LargeDataset)
    prepared = prepare_large(tmp_path / "taobao-ctr", dataset, folder / "taobao", silent)

    def run(purpose: Purpose) -> dict[str, float]:
        backbone = {"backbone": Component(DeepFM, {})}
        settings, method = CtrSettings(), Component(Supervised, {"epochs": 2, "learning_rate": 0.003})
        return Ctr().run(Context(method, backbone, settings, prepared, purpose, 0, None, no_log)).metrics

    found, splits = run("repeat"), prepared.schema.splits
    assert found["test/optimum_auc"] == splits["time_test"].optimum_auc
    assert found["test/training_rows"] == splits["time_train"].rows == ROWS * 8 // 10
    assert 0.6 < found["test/auc"] < found["test/optimum_auc"] + 2 * found["test/auc_standard_error"]
    assert not [name for name in run("search") if "optimum" in name]


def test_a_world_of_fewer_rows_is_the_same_with_all_rows_and_has_more_of_each() -> None:
    for make, users, items in ((ads.taobao_world, 860, 638), (events.cikm_world, 336, 1260)):
        own, denser = make(20_000, 5), make(200_000, 5, 20_000)
        assert (own.users, own.items) == (denser.users, denser.items) == (users, items)
        assert np.array_equal(own.user_vector, denser.user_vector)
        assert np.array_equal(own.item_vector, denser.item_vector)
        counts = [np.sort(np.bincount(world.item_of, minlength=items)) for world in (own, denser)]
        assert counts[1].sum() == 200_000
        assert np.abs(counts[1] - 10 * counts[0]).max() <= 1, "each occurs ten times as often"


def test_only_generated_rows_have_a_known_optimum(folder: Path, tmp_path: Path) -> None:
    schema = Schema(name="x", kind="interactions", version=1, hash="", inputs=(), items=0, users=0, splits={})
    with pytest.raises(InputError, match="x: not synthetic"):
        planted_auc(PreparedDataset(tmp_path, schema), "test")
