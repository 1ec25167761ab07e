"""Equal profiles are one object, within a bound."""

from gateway.shard.profiles import MAX_PROFILES, Profiles
from router.model.selection import Profile


def test_devices_that_are_alike_share_one_profile() -> None:
    profiles = Profiles()
    one = profiles.share(Profile("ios", "1.0"))
    assert profiles.share(Profile("ios", "1.0")) is one
    assert profiles.share(Profile("ios", "1.1")) is not one


def test_what_is_remembered_is_bounded() -> None:
    profiles = Profiles()
    for number in range(MAX_PROFILES + 1):
        profiles.share(Profile("ios", str(number)))
    assert len(profiles._known) == 1
