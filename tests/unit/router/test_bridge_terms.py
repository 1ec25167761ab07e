"""On which terms a bridge may carry a message that is being accepted."""

import pytest

from router.bridge_terms import NO_TERMS, BridgeTerms
from router.bridges import discover
from router.model.errors import ErrorCode, PushError
from router.model.ids import MessageId, ProjectId
from router.model.message import BridgeMode, BridgePolicy, Message, Notification, Platforms
from router.policy.bridge_part import pack, unpack
from router.policy.intake import take_in

PROJECT, ID = ProjectId("demo"), MessageId("00l3v8abcdefghijklmnopqrstu")
NOW_MS, AFTER_MS = 1_900_000_000_000, 10_000
PLAIN = Message(token="", notification=Notification("Title"), data={"k": "v"})
HEAVY = Message(
    token="", platforms=Platforms(apns={"payload": {"aps": {"alert": "x"}, "more": "x" * 4090}})
)
HALF = Message(token="", platforms=Platforms(apns={"payload": {"aps": {"alert": "\ud800"}}}))


class Known:
    """Bridges that the project has, once anything is known."""

    def __init__(self, *names: str, loaded: bool = True) -> None:
        self._names = frozenset(names)
        self.is_loaded = loaded

    def names(self, project: ProjectId) -> frozenset[str]:
        return self._names if project == PROJECT else frozenset()

    async def has(self, project: ProjectId, name: str) -> bool:
        return name in self.names(project)


def terms(*names: str, loaded: bool = True) -> BridgeTerms:
    return BridgeTerms(discover(), Known(*names, loaded=loaded), AFTER_MS)


def test_a_project_without_bridges_has_no_terms() -> None:
    taken = take_in(HEAVY, ID, NOW_MS)
    assert terms().of(PROJECT, HEAVY, ID, taken) is NO_TERMS
    assert terms("apns").of(ProjectId("other"), HEAVY, ID, taken) is NO_TERMS
    assert terms("apns").of_many(ProjectId("other"), HEAVY, ID, taken) is NO_TERMS


def test_what_no_bridge_may_carry_is_not_looked_at() -> None:
    never = Message(token="", bridge=BridgePolicy(BridgeMode.NEVER), platforms=HEAVY.platforms)
    assert terms("apns").of_many(PROJECT, never, ID, take_in(never, ID, NOW_MS)) is NO_TERMS
    terms("apns").check("apns", never, NOW_MS)


def test_only_has_terms_though_the_project_has_no_bridge() -> None:
    only = Message(token="", bridge=BridgePolicy(BridgeMode.ONLY))
    assert terms().of(PROJECT, only, ID, take_in(only, ID, NOW_MS)).policy == "2|o"


def test_while_nothing_is_known_a_bridge_may_carry_all() -> None:
    found = terms(loaded=False).of(PROJECT, HEAVY, ID, take_in(HEAVY, ID, NOW_MS))
    assert found == (f"2|{AFTER_MS}", pack(HEAVY), "")


def test_a_message_for_one_device_names_the_bridges_that_cannot_carry_it() -> None:
    taken = take_in(HEAVY, ID, NOW_MS)
    found = terms("apns", "fcm", "webpush").of(PROJECT, HEAVY, ID, taken)
    assert found.unfit == "apns"
    refusal = terms("apns").refusal("apns", taken.frame, found.part)
    assert refusal.code is ErrorCode.INVALID_ARGUMENT
    assert [one.field for one in refusal.violations] == ["message.apns.payload"]
    assert unpack(taken.frame, found.part).apns == HEAVY.platforms.apns  # type: ignore[union-attr]
    plain = terms("apns", "fcm", "webpush").of(PROJECT, PLAIN, ID, take_in(PLAIN, ID, NOW_MS))
    assert plain == (f"2|{AFTER_MS}", b"", "")


def test_a_message_for_many_must_suit_every_bridge() -> None:
    taken = take_in(HEAVY, ID, NOW_MS)
    assert terms("fcm").of_many(PROJECT, HEAVY, ID, taken).unfit == ""
    with pytest.raises(PushError, match=r"payload for apns takes 41[0-9]+ bytes; 4096 at most"):
        terms("fcm", "apns").of_many(PROJECT, HEAVY, ID, taken)
    with pytest.raises(PushError, match=r"message\.apns\.payload"):
        terms("fcm", "apns").check_many(PROJECT, HEAVY, NOW_MS)
    terms("fcm").check_many(PROJECT, HEAVY, NOW_MS)


def test_half_a_surrogate_pair_is_refused() -> None:
    taken = take_in(HALF, ID, NOW_MS)
    with pytest.raises(PushError, match="surrogate"):
        terms("apns").of(PROJECT, HALF, ID, taken)
    with pytest.raises(PushError, match="surrogate"):
        terms("apns").check("apns", HALF, NOW_MS)
