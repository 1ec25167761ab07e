"""Hints: what is written is read; what was not written by us is refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model.hint import (
    Advance,
    AnyHint,
    Deliver,
    Displace,
    Publish,
    Readdress,
    Retract,
    Unregister,
    Wake,
    decode_hints,
    encode_hints,
)
from router.model.ids import DeviceId, MessageId, ProjectId, TopicName
from router.model.lane import Lane
from router.model.message import ReceiptMode

_devices = st.text(min_size=1, max_size=64).map(DeviceId)
_epochs = st.integers(0, 2**53)
_projects = st.text(min_size=1, max_size=20).map(ProjectId)
_topics = st.text(min_size=1, max_size=20).map(TopicName)
_hints: st.SearchStrategy[AnyHint] = st.one_of(
    st.builds(
        Deliver,
        _devices,
        _epochs,
        _epochs,
        st.text(max_size=27).map(MessageId),
        _epochs,
        st.binary(max_size=200),
        st.sampled_from(Lane),
    ),
    st.builds(
        Publish,
        _projects,
        _topics,
        _epochs,
        _epochs,
        st.text(max_size=27).map(MessageId),
        _epochs,
        st.sampled_from(ReceiptMode),
        st.text(max_size=20),
        st.binary(max_size=200),
        st.sampled_from(Lane),
    ),
    st.builds(Advance, _projects, _topics, _epochs, st.sampled_from(Lane)),
    st.builds(Retract, _projects, _topics, _epochs),
    st.builds(Wake, _devices, _epochs),
    st.builds(Displace, _devices, _epochs),
    st.builds(Unregister, _devices, _epochs),
    st.builds(Readdress, _devices, _epochs, st.text(max_size=100)),
)


@given(st.lists(_hints, max_size=20))
def test_hints_survive_the_inbox(hints: list[AnyHint]) -> None:
    assert decode_hints(encode_hints(hints)) == hints


@pytest.mark.parametrize("entry", [b"", b"\xc1", b"\x91\x92\xa1z\xa1d", b"\x01"])
def test_a_foreign_entry_is_refused(entry: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_hints(entry)
