import pytest
from table_example import cold_start_spec

from harness.errors import InputError
from harness.tables import PublishedCell, read_published

HEADER = "dataset,row,metric,value,flag\n"


def read(tmp_path, text):
    (tmp_path / "published.csv").write_text(text, encoding="utf-8")
    return read_published(tmp_path / "published.csv", cold_start_spec())


def test_cells_are_read_with_their_flags(tmp_path):
    text = HEADER + 'ml-1m,DeepFM,cold/auc,0.7313,\n\ntaobao,Other,cold/relaimpr,-0.7,"odd, very"\n'
    assert read(tmp_path, text) == {
        ("ml-1m", "DeepFM", "cold/auc"): PublishedCell(0.7313),
        ("taobao", "Other", "cold/relaimpr"): PublishedCell(-0.7, "odd, very"),
    }


def test_columns_may_stand_in_any_order(tmp_path):
    assert read(tmp_path, "flag,value,metric,row,dataset\n,0.5,cold/auc,Other,ml-1m\n") == {
        ("ml-1m", "Other", "cold/auc"): PublishedCell(0.5)
    }


def test_a_byte_order_mark_as_spreadsheets_write_it_is_no_part_of_the_header(tmp_path):
    assert read(tmp_path, "\ufeff" + HEADER + "ml-1m,Other,cold/auc,0.5,\n") == {
        ("ml-1m", "Other", "cold/auc"): PublishedCell(0.5)
    }


def test_no_file_is_no_cells(tmp_path):
    assert read_published(tmp_path / "published.csv", cold_start_spec()) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEADER + "ml-1m,DeepFN,cold/auc,0.7,\n",
            r"line 2: the table asks for no row 'DeepFN'; did you mean 'DeepFM'\?",
        ),
        (
            HEADER + "ml-1,DeepFM,cold/auc,0.7,\n",
            r"line 2: the table asks for no dataset 'ml-1'; did you mean 'ml-1m'\?",
        ),
        (HEADER + "ml-1m,DeepFM,cold/acc,0.7,\n", r"line 2: the table asks for no metric 'cold/acc'; did you mean"),
        (HEADER + "ml-1m,DeepFM,cold/auc,0.7,\n" * 2, "line 3: ml-1m / DeepFM / cold/auc stands twice"),
        (HEADER + "ml-1m,DeepFM,cold/auc,0.7%,\n", "line 2: value '0.7%' is not a number"),
        (HEADER + "ml-1m,DeepFM,cold/auc,nan,\n", "line 2: value 'nan' is not a number"),
        (HEADER + "ml-1m,DeepFM,cold/auc,,\n", "line 2: value '' is not a number"),
        (HEADER + "ml-1m,DeepFM,cold/auc,0.7\n", "line 2: 4 values for 5 columns"),
        ("dataset,row,metric,value\n", "line 1: column 'flag' is missing"),
        ("", "line 1: column 'dataset' is missing"),
    ],
)
def test_bad_input_is_one_line_that_names_file_and_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / "published.csv"))
    assert "\n" not in str(error.value)


def test_a_file_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "published.csv").write_bytes(HEADER.encode() + "ml-1m,Dëep,cold/auc,1,\n".encode("latin-1"))
    with pytest.raises(InputError, match="cannot be read"):
        read_published(tmp_path / "published.csv", cold_start_spec())
