"""Hints: what is written is read; what was not written by us is refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model.hint import (
    Deliver,
    Displace,
    Hint,
    Readdress,
    Unregister,
    Wake,
    decode_hints,
    encode_hints,
)
from router.model.ids import DeviceId, MessageId

_devices = st.text(min_size=1, max_size=64).map(DeviceId)
_epochs = st.integers(0, 2**53)
_hints: st.SearchStrategy[Hint] = st.one_of(
    st.builds(
        Deliver,
        _devices,
        _epochs,
        _epochs,
        st.text(max_size=27).map(MessageId),
        _epochs,
        st.binary(max_size=200),
    ),
    st.builds(Wake, _devices, _epochs),
    st.builds(Displace, _devices, _epochs),
    st.builds(Unregister, _devices, _epochs),
    st.builds(Readdress, _devices, _epochs, st.text(max_size=100)),
)


@given(st.lists(_hints, max_size=20))
def test_hints_survive_the_inbox(hints: list[Hint]) -> None:
    assert decode_hints(encode_hints(hints)) == hints


@pytest.mark.parametrize("entry", [b"", b"\xc1", b"\x91\x92\xa1z\xa1d", b"\x01"])
def test_a_foreign_entry_is_refused(entry: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_hints(entry)
