import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.datasets import catalog, item_text, writing
from harness.datasets.raw import Dataset, KnownFile
from harness.datasets.writing import read_table, row_hash, write_table
from harness.errors import DataError, InputError, NoDataError
from tests.harness.datasets.raw_copies import SMALL_ML_1M, write_files


@pytest.fixture(autouse=True)
def no_raw_data_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIFFBENCH_DATA", raising=False)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Dataset]:
    """Put a dataset `tiny` of MovieLens' form, whose files are the small ones, into the catalog."""

    real = catalog.find("ml-1m")

    def add(**changed: Any) -> Dataset:
        given: dict[str, Any] = {
            **vars(real),
            "name": "tiny",
            "folder": "tiny",
            "layouts": ({name: KnownFile(text.count("\n")) for name, text in SMALL_ML_1M.items()},),
            "facts": {"rows": 3, "users": 2},
            "download": None,
            **changed,
        }
        dataset = Dataset(**given)
        monkeypatch.setattr(catalog, "_datasets", lambda: {"tiny": dataset})
        return dataset

    return add


def test_the_names() -> None:
    categories, longer = ("beauty", "sports", "toys"), ("", *(f"-history-{length}" for length in (20, 30, 40, 50)))
    names = {"ml-100k", "ml-1m", "ml-100k-ctr", "ml-1m-ctr", "avazu", "avazu-sample", "criteo", "criteo-sample"}
    names |= {f"amazon-{name}{longest}" for name in categories for longest in longer}
    names |= {f"amazon-{name}-leave-one-out{longest}" for name in categories for longest in longer}
    names |= {f"{name}{longest}" for name in ("ml-1m-next-item", "steam") for longest in longer}
    names |= {f"amazon-{name}-leave-one-out" for name in ("automotive", "instruments", "office")}
    names |= {"yahoo-r1", "amazon-2018-pretraining"}
    domains = ("automotive", "phones", "tools", "instruments", "food", "office", "cds", "movies")
    names |= {f"amazon-2018-{name}" for name in domains}
    names |= {f"amazon-2018-automotive-phones{more}" for more in ("", "-tools", "-tools-instruments")}
    names |= {"amazon-beauty-sports"}
    names |= {"cikm", "cikm-ctr", "taobao", "taobao-ctr"}
    assert set(catalog.dataset_names()) == names
    for name in catalog.dataset_names():
        assert catalog.find(name).name == name


@pytest.mark.parametrize("call", [catalog.find, lambda name: catalog.status(name, Path("x"))])
def test_an_unknown_name_gets_the_closest_one(call: Callable[[str], object]) -> None:
    with pytest.raises(InputError, match=r"unknown dataset 'amazon-beuty'; did you mean 'amazon-beauty'\?"):
        call("amazon-beuty")


def test_missing_raw_files_say_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        catalog.prepare("amazon-toys", tmp_path)
    message = str(error.value)
    assert "\n" not in message
    assert "user_split/train_data.txt" in message
    assert str(tmp_path / "raw/amazon-2014/Toys_and_Games") in message
    with pytest.raises(DataError, match=f"amazon-toys: no raw files; put .* into {tmp_path / 'nowhere'}"):
        catalog.prepare("amazon-toys", tmp_path, tmp_path / "nowhere")


def test_a_named_folder_without_raw_files_is_not_replaced_by_a_download(
    tmp_path: Path, tiny: Callable[..., Dataset]
) -> None:
    tiny(download=lambda folder, say: pytest.fail("downloaded"))
    with pytest.raises(DataError, match="no raw files"):
        catalog.prepare("tiny", tmp_path, tmp_path)


def test_raw_files_are_found_in_their_order(
    tmp_path: Path, tiny: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny(counts_suffice=True)
    given, environment, own = (tmp_path / name for name in ("given", "environment", "own"))
    said: list[str] = []

    def first_line() -> str:
        said.clear()
        catalog.prepare("tiny", own, raw, said.append)
        return said[0]

    write_files(own / "raw/tiny", SMALL_ML_1M)
    raw: Path | None = None
    assert first_line() == f"reading {own / 'raw/tiny'}"
    monkeypatch.setenv("DIFFBENCH_DATA", str(environment))
    write_files(environment / "tiny", {**SMALL_ML_1M, "ratings.dat": SMALL_ML_1M["ratings.dat"].replace("5", "4")})
    assert first_line() == f"reading {environment / 'tiny'}"
    raw = given
    write_files(given / "tiny", SMALL_ML_1M)
    assert first_line() == f"reading {given / 'tiny'}"
    write_files(given, {**SMALL_ML_1M, "ratings.dat": SMALL_ML_1M["ratings.dat"].replace("5", "4")})
    assert first_line() == f"reading {given}"


@pytest.mark.parametrize("said_by", ["option", "variable"])
def test_folders_of_raw_files_are_told_as_processes_that_run_elsewhere_find_them(
    said_by: str, tmp_path: Path, tiny: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny(counts_suffice=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFFBENCH_DATA", "given" if said_by == "variable" else "")
    write_files(tmp_path / "given/tiny", SMALL_ML_1M)
    said: list[str] = []
    catalog.prepare("tiny", tmp_path / "own", Path("given") if said_by == "option" else None, said.append)
    assert said[0] == f"reading {tmp_path / 'given/tiny'}"


def test_a_dataset_is_downloaded_when_no_raw_file_is_there(tmp_path: Path, tiny: Callable[..., Dataset]) -> None:
    tiny(counts_suffice=True, download=lambda folder, say: write_files(folder, SMALL_ML_1M))
    assert catalog.status("tiny", tmp_path) == "can be downloaded"
    prepared = catalog.prepare("tiny", tmp_path)
    assert prepared.folder == tmp_path / "prepared/tiny"
    assert catalog.status("tiny", tmp_path) == "prepared"
    assert catalog.open_dataset("tiny", tmp_path).hash == prepared.hash


def test_what_a_status_says(tmp_path: Path, tiny: Callable[..., Dataset]) -> None:
    tiny(counts_suffice=True)
    assert catalog.status("tiny", tmp_path) == "missing"
    write_files(tmp_path / "raw/tiny", SMALL_ML_1M)
    assert catalog.status("tiny", tmp_path) == "raw files found"


def test_a_damaged_schema_without_raw_files_is_told_as_what_it_is(tmp_path: Path, tiny: Callable[..., Dataset]) -> None:
    tiny(counts_suffice=True)
    raw = write_files(tmp_path / "elsewhere", SMALL_ML_1M)
    first = catalog.prepare("tiny", tmp_path, raw)
    (first.folder / "schema.json").write_text("{")
    assert catalog.status("tiny", tmp_path) == "damaged"
    with pytest.raises(DataError, match=r"tiny/schema\.json: not a schema .* delete .*tiny and prepare it again"):
        catalog.prepare("tiny", tmp_path)
    with pytest.raises(NoDataError, match=r"tiny: no raw files; put .*nowhere"):
        catalog.prepare("tiny", tmp_path, tmp_path / "nowhere")
    assert catalog.prepare("tiny", tmp_path, raw).hash == first.hash


def test_a_prepared_dataset_needs_its_raw_files_no_more(tmp_path: Path, tiny: Callable[..., Dataset]) -> None:
    tiny(counts_suffice=True)
    raw = write_files(tmp_path / "elsewhere", SMALL_ML_1M)
    first = catalog.prepare("tiny", tmp_path, raw)
    said: list[str] = []
    assert catalog.prepare("tiny", tmp_path, progress=said.append).hash == first.hash
    assert said == []


def test_another_version_is_prepared_anew(tmp_path: Path, tiny: Callable[..., Dataset]) -> None:
    tiny(counts_suffice=True)
    raw = write_files(tmp_path / "elsewhere", SMALL_ML_1M)
    catalog.prepare("tiny", tmp_path, raw)
    tiny(counts_suffice=True, version=2)
    with pytest.raises(DataError, match="tiny: prepared by another version; run `diffbench data prepare tiny`"):
        catalog.open_dataset("tiny", tmp_path)
    assert catalog.prepare("tiny", tmp_path, raw).schema.version == 2


def test_other_counts_than_the_known_ones_are_refused(tmp_path: Path, tiny: Callable[..., Dataset]) -> None:
    tiny(counts_suffice=True, facts={"rows": 3, "users": 5})
    raw = write_files(tmp_path / "elsewhere", SMALL_ML_1M)
    with pytest.raises(DataError, match=r"tiny: users: 2, 5 expected; ratings\.dat.* differ from the known files"):
        catalog.prepare("tiny", tmp_path, raw)
    assert not (tmp_path / "prepared/tiny").exists()


def test_an_unwritable_place_is_one_line(
    tmp_path: Path, tiny: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny(counts_suffice=True)
    raw = write_files(tmp_path / "elsewhere", SMALL_ML_1M)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be written \(.*\); nothing was kept") as error:
        catalog.prepare("tiny", tmp_path / "file", raw)
    assert "\n" not in str(error.value)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing, "write_table", full)
    with pytest.raises(DataError, match="No space left on device"):
        catalog.prepare("tiny", tmp_path, raw)
    assert [path.name for path in (tmp_path / "prepared").iterdir()] == [".tiny.lock"]


def test_what_a_killed_preparation_left_is_removed(tmp_path: Path, tiny: Callable[..., Dataset]) -> None:
    tiny(counts_suffice=True)
    write_files(tmp_path / "prepared/.tiny.12345678.partial", {"rows.parquet": "half"})
    write_files(tmp_path / "prepared/.tiny-other.12345678.partial", {"rows.parquet": "half"})
    catalog.prepare("tiny", tmp_path, write_files(tmp_path / "elsewhere", SMALL_ML_1M))
    left = sorted(path.name for path in (tmp_path / "prepared").iterdir())
    assert left == [".tiny-other.12345678.partial", ".tiny.lock", "tiny"]


def described(root: Path, tiny: Callable[..., Dataset]) -> Path:
    """Prepare a dataset that describes its items; return its folder."""
    files = {name: SMALL_ML_1M[name] for name in ("ratings.dat", "movies.dat")}
    raw = write_files(root / "elsewhere", files)
    layout = {name: KnownFile(text.count("\n")) for name, text in files.items()}
    parse = catalog.find("ml-1m-next-item").parse
    tiny(kind="sequences", counts_suffice=True, facts={}, layouts=(layout,), parse=parse)
    return catalog.prepare("tiny", root, raw).folder


def test_verify_checks_descriptions(tmp_path: Path, tiny: Callable[..., Dataset]) -> None:
    folder = described(tmp_path, tiny)
    assert catalog.verify("tiny", tmp_path) == []
    text = folder / "item_text.csv"
    text.write_text(text.read_text(encoding="utf-8").replace("Toy", "Soap"), encoding="utf-8")
    expected = f"tiny: item_text.csv differs from schema.json's hash; delete {folder} and prepare it again"
    assert catalog.verify("tiny", tmp_path) == [expected]
    with pytest.raises(DataError, match=r"item_text\.csv: differs from schema\.json's hash; delete .* again"):
        item_text.item_attributes(catalog.open_dataset("tiny", tmp_path))
    text.unlink()
    assert catalog.verify("tiny", tmp_path) == [expected]


def test_a_dataset_whose_hash_leaves_descriptions_out_is_prepared_anew(
    tmp_path: Path, tiny: Callable[..., Dataset]
) -> None:
    folder = described(tmp_path, tiny)
    path, now = folder / "schema.json", catalog.open_dataset("tiny", tmp_path).hash
    tables = {split: read_table(folder / f"{split}.parquet") for split in ("train", "validation", "test")}
    schema = {**json.loads(path.read_text()), "hash": row_hash(tables)}
    del schema["descriptions"]  # as it was written before
    path.write_text(json.dumps(schema))
    with pytest.raises(DataError, match=r"tiny: its hash leaves out item_text\.csv; run `diffbench data prepare tiny`"):
        catalog.open_dataset("tiny", tmp_path)
    assert catalog.status("tiny", tmp_path) == "missing"
    assert catalog.prepare("tiny", tmp_path, tmp_path / "elsewhere").hash == now
    assert catalog.status("tiny", tmp_path) == "prepared"


def test_verify_names_a_missing_column(tmp_path: Path, tiny: Callable[..., Dataset]) -> None:
    tiny(counts_suffice=True)
    folder = catalog.prepare("tiny", tmp_path, write_files(tmp_path / "elsewhere", SMALL_ML_1M)).folder
    columns = read_table(folder / "rows.parquet")
    del columns["split"]
    write_table(folder / "rows.parquet", columns)
    assert catalog.verify("tiny", tmp_path) == [
        f"tiny: the rows differ from schema.json's hash; delete {folder} and prepare it again",
        f"{folder}/rows.parquet: no column split; delete {folder} and prepare it again",
    ]


def test_verify_names_a_missing_column_of_sequences(tmp_path: Path, tiny: Callable[..., Dataset]) -> None:
    folder = described(tmp_path, tiny)
    write_table(folder / "train.parquet", {"other": np.array([1.5, 2.5], dtype=np.float32)})
    problems = catalog.verify("tiny", tmp_path)
    assert problems[1:] == [f"{folder}/train.parquet: no column target; delete {folder} and prepare it again"]


def test_a_dataset_that_is_not_prepared_says_how(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ml-1m: not prepared in .*; run `diffbench data prepare ml-1m`"):
        catalog.open_dataset("ml-1m", tmp_path)
    assert len(catalog.verify("ml-1m", tmp_path)) == 1
