from hypothesis import given
from hypothesis import strategies as st

from router.policy.foreign_text import foreign_text


@given(st.binary(), st.integers(0, 20))
def test_what_any_bytes_become_can_be_stored(raw: bytes, characters: int) -> None:
    text = foreign_text(raw.decode("utf-8", "surrogateescape"), characters)
    assert len(text) <= characters
    text.encode()


def test_text_stays_as_it_is() -> None:
    assert foreign_text("größer: 😀", 99) == "größer: 😀"
