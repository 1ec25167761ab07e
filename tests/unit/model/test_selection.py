"""An selection travels as text."""

from hypothesis import given
from hypothesis import strategies as st

from router.model.selection import Filter, Selection, decode_selection, encode_selection

words = st.lists(st.text(max_size=4), max_size=3).map(tuple)
filters = st.builds(
    Filter,
    platform=words,
    language=words,
    region=words,
    app_version=st.sampled_from(["", ">=2 <3"]),
    attributes=st.dictionaries(st.text(max_size=4), words),
)


@given(st.builds(Selection, st.sampled_from(["", "'a' in topics"]), st.none() | filters))
def test_an_selection_comes_back_as_it_was_written(selection: Selection) -> None:
    assert decode_selection(encode_selection(selection)) == selection


def test_everybody_is_the_empty_text() -> None:
    assert encode_selection(None) == ""
    assert decode_selection("") is None
