"""Every state of a session and every input: an error, or a state that the table allows."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.shard.events import TRANSITIONS, Action, Close, Detach, Input, SessionError, State
from gateway.shard.session.published import Counts, Run, Topic
from router.model.hint import Deliver, Displace, Hint, Readdress, Unregister, Wake
from router.model.ids import DeviceId, TopicName
from router.model.mailbox import Attached, AttachResult, Window
from tests.unit.shard.driver import (
    CREDENTIAL,
    DEVICE,
    EPOCH,
    NONCE,
    START_MS,
    Lead,
    frame,
    message,
    of,
    pending,
)
from tests.unit.shard.topic_world import item

Step = Callable[[Lead], Sequence[Action]]

_seqs = st.integers(0, 12)
_numbers = st.integers(1, 12)
_epochs = st.integers(EPOCH - 1, EPOCH + 1)
_expiries = st.sampled_from([START_MS, START_MS + 2_000, START_MS + 3_600_000])
_ids = _numbers.map(message) | st.sampled_from(["x", message(1, DeviceId("e" * 16))])


@st.composite
def _windows(draw: st.DrawFn) -> Window:
    seqs = sorted(draw(st.sets(_numbers, max_size=6)))
    brought = tuple(pending(seq, draw(_expiries)) for seq in seqs)
    head = draw(st.integers(seqs[-1] if seqs else 0, 14))
    return Window(brought, head, draw(st.booleans()), draw(st.integers(0, 2)))


_attached: st.SearchStrategy[Attached] = st.builds(
    Attached,
    result=st.sampled_from(
        [AttachResult.ATTACHED, AttachResult.BAD_CREDENTIAL, AttachResult.UNREGISTERED]
    ),
    epoch=st.just(EPOCH),
    pending=_seqs,
    token_nonce=st.just(NONCE),
    window=_windows(),
)
_hints: st.SearchStrategy[Hint] = st.one_of(
    st.builds(
        lambda epoch, seq, number, expires_ms: Deliver(
            DEVICE, epoch, seq, message(number), expires_ms, frame(number)
        ),
        _epochs,
        _seqs,
        _numbers,
        _expiries,
    ),
    st.builds(Wake, st.just(DEVICE), _epochs),
    st.builds(Displace, st.just(DEVICE), _epochs),
    st.builds(Unregister, st.just(DEVICE), _epochs),
    st.builds(Readdress, st.just(DEVICE), _epochs, st.just("token")),
)
_frames: st.SearchStrategy[dict[str, object]] = st.one_of(
    st.builds(lambda ids: {"op": "ack", "ids": ids}, st.lists(_ids, max_size=4)),
    st.builds(lambda text, wait: {"op": "nack", "id": text, "retry_after": wait}, _ids, _seqs),
    st.builds(lambda text: {"op": "event", "id": text, "event": "opened"}, _ids),
    st.builds(lambda ref: {"op": "send", "id": ref, "data": {}}, st.sampled_from("abcd")),
    st.builds(
        lambda op, ref: {"op": op, "topics": ["t"], "ref": ref},
        st.sampled_from(["subscribe", "unsubscribe"]),
        st.sampled_from("abcd"),
    ),
    st.just({"op": "ping"}),
)
_bad: st.SearchStrategy[str | bytes] = st.sampled_from(["", "{}", '{"op":"new"}', b"wrong type"])
_credentials = st.sampled_from([CREDENTIAL, "nonsense"])


def _topic_step(kind: str, seq: int, cursor: int) -> Step:
    """Something that the shard tells of a topic; the session's own one where it has one."""

    def step(lead: Lead) -> Sequence[Action]:
        session = lead.session
        topic = session.topics[0] if session.topics else Topic(TopicName("t"), Counts(), cursor)
        topic.head = max(topic.head, seq)
        match kind:
            case "topics":
                return session.on_topics([(topic, cursor)], lead.now_ms)
            case "none":
                return session.on_topics([], lead.now_ms)
            case "published":
                run = Run([item(seq, cursor), item(seq + 1)])
                topic.head = max(topic.head, seq + 1)
                run.look(lead.now_ms)
                return session.on_published(topic, run, lead.now_ms)
            case "tail":
                return session.on_tail(topic, lead.now_ms)
            case "read":
                return session.on_topic_read(topic, [item(seq)], seq, lead.now_ms)
            case _:
                return session.on_topic_away(lead.now_ms)

    return step


_topic_steps = st.builds(
    _topic_step,
    st.sampled_from(["topics", "none", "published", "published", "tail", "read", "away"]),
    _seqs,
    _seqs,
)


def _step(cause: Input) -> st.SearchStrategy[Step]:
    """One input with whatever may come with it."""

    def later(duration_ms: int) -> Step:
        def step(lead: Lead) -> Sequence[Action]:
            lead.now_ms += duration_ms
            return lead.session.on_timer(lead.now_ms)

        return step

    steps: dict[Input, st.SearchStrategy[Step]] = {
        Input.CONNECT: _credentials.map(
            lambda text: lambda lead: lead.gets(op="connect", credential=text)
        ),
        Input.FRAME: _frames.map(lambda frame: lambda lead: lead.gets(**frame)),
        Input.BAD_FRAME: _bad.map(
            lambda payload: lambda lead: lead.session.on_message(payload, lead.now_ms)
        ),
        Input.ATTACHED: _attached.map(
            lambda attached: lambda lead: lead.session.on_attached(attached, lead.now_ms)
        ),
        Input.UNAVAILABLE: st.just(Lead.away),
        Input.FETCHED: (st.none() | _windows()).map(
            lambda brought: lambda lead: lead.fetched(brought)
        ),
        Input.HINT: _hints.map(lambda hint: lambda lead: lead.session.on_hint(hint, lead.now_ms)),
        Input.DONE: st.tuples(st.sampled_from("abcd"), st.none() | st.just("away")).map(
            lambda done: lambda lead: lead.session.on_done(*done, lead.now_ms)
        ),
        Input.TOPIC: _topic_steps,
        Input.WRITABLE: st.booleans().map(lambda writable: lambda lead: lead.writable(writable)),
        Input.TIMER: st.sampled_from([0, 1_000, 10_000, 400_000]).map(later),
        Input.GOAWAY: st.just(lambda lead: lead.session.on_goaway("drain", 1.0, lead.now_ms)),
        Input.CLOSED: st.just(lambda lead: lead.session.on_closed(lead.now_ms)),
    }
    return steps[cause]


_any_step = st.sampled_from(Input).flatmap(lambda cause: st.tuples(st.just(cause), _step(cause)))


def _bring(state: State, max_errors: int) -> Lead:
    """A session in this state, with small limits."""
    lead = Lead(window=3, max_errors=max_errors, max_upstream=2, max_settled=4)
    if state is not State.CONNECTING:
        lead.connect()
    if state > State.ATTACHING:
        lead.attached()
    if state is State.DRAINING:
        lead.session.on_goaway("drain", 1.0, lead.now_ms)
    if state is State.CLOSED:
        lead.gets(op="connect", credential=CREDENTIAL)
    assert lead.session.state is state
    return lead


def _take(lead: Lead, cause: Input, step: Step) -> None:
    session = lead.session
    before = session.state
    reading = session._read is not None
    try:
        actions = step(lead)
    except SessionError:
        nothing_asked = cause is Input.FETCHED and not reading
        assert cause not in TRANSITIONS[before] or nothing_asked
        assert session.state is before
        return
    assert session.state in TRANSITIONS[before].get(cause, ()), (before, cause, session.state)
    closes = of(Close, actions)
    ended = before is not State.CLOSED and session.state is State.CLOSED
    assert bool(closes) == (ended and cause is not Input.CLOSED)
    assert closes == of(Close, actions[-1:])
    assert not of(Detach, actions) or cause is Input.CLOSED
    assert not actions or before is not State.CLOSED or cause is Input.CLOSED
    assert session.in_flight <= lead.limits.window


@pytest.mark.slow
@pytest.mark.parametrize("cause", Input)
@pytest.mark.parametrize("state", State)
def test_an_input_is_an_error_or_leads_where_the_table_says(state: State, cause: Input) -> None:
    @given(_step(cause), st.integers(0, 1))
    def check(step: Step, max_errors: int) -> None:
        _take(_bring(state, max_errors), cause, step)

    check()


@pytest.mark.slow
@given(st.sampled_from(State), st.integers(0, 3), st.lists(_any_step, max_size=30))
def test_whatever_comes_in_whatever_order_the_table_holds(
    state: State, max_errors: int, steps: list[tuple[Input, Step]]
) -> None:
    lead = _bring(state, max_errors)
    for cause, step in steps:
        _take(lead, cause, step)
