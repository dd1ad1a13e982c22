import numpy as np

from harness.datasets.encoding import encode_categories, encode_sequence, scale_to_unit, title_words


def test_categories_are_numbered_in_sorted_order() -> None:
    column = encode_categories("gender", "user", ["M", "F", "M", ""])
    assert column.values.tolist() == [2, 1, 2, 0]
    assert column.values.dtype == np.int32
    assert (column.field.size, column.field.kind, column.field.role) == (3, "category", "user")


def test_numbers_sort_as_numbers_not_as_text() -> None:
    assert encode_categories("age", "user", np.array([9, 10, 100])).values.tolist() == [0, 1, 2]


def test_sequences_are_cut_and_padded_with_an_id_that_no_word_has() -> None:
    column = encode_sequence("title", "item", [["toy", "story"], [], ["a", "bug", "s", "life"]], 3)
    assert column.values.tolist() == [[5, 4, 0], [0, 0, 0], [1, 2, 3]]
    assert (column.field.size, column.field.length) == (6, 3)


def test_the_order_of_the_rows_does_not_change_the_ids() -> None:
    words = [["b", "a"], ["c"]]
    there = encode_sequence("title", "item", words, 2).values
    back = encode_sequence("title", "item", words[::-1], 2).values
    assert there.tolist() == back[::-1].tolist()


def test_scaling_goes_from_0_to_1() -> None:
    assert scale_to_unit(np.array([10, 30, 20])).tolist() == [0.0, 1.0, 0.5]
    assert scale_to_unit(np.array([7, 7])).tolist() == [0.0, 0.0]


def test_title_words_have_no_case_and_no_punctuation() -> None:
    assert title_words("Schindler's List") == ["schindlers", "list"]
    assert title_words("Misérables, Les") == ["misérables", "les"]
    assert title_words("Seven (Se7en)") == ["seven", "se7en"]
    assert title_words("???") == []
