"""Filters against a naive reading of their rules; conditions and filters together."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model.selection import Filter, Profile, Selection
from router.policy.admission import Admission, Matcher, admission

languages = st.sampled_from(["", "en", "en-GB", "en_US", "EN", "eng", "de", "de-CH-1996"])
attribute_values = st.sampled_from(["", "pro", "Pro", "free"])
profiles = st.builds(
    Profile,
    platform=st.sampled_from(["ios", "android", "web"]),
    app_version=st.sampled_from(["", "2.3.0", "3.0.0-beta", "x"]),
    language=languages,
    region=st.sampled_from(["", "DE", "de", "us-east"]),
    attributes=st.one_of(
        st.just(""),
        st.dictionaries(st.sampled_from(["plan", "cohort"]), attribute_values).map(
            lambda known: msgspec.json.encode(known).decode()
        ),
    ),
)


def values(strategy: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(strategy, max_size=3).map(tuple)


filters = st.builds(
    Filter,
    platform=values(st.sampled_from(["ios", "android", "IOS"])),
    language=values(languages.filter(bool)),
    region=values(st.sampled_from(["DE", "us-EAST"])),
    app_version=st.sampled_from(["", ">=2.3.0 <3"]),
    attributes=st.dictionaries(
        st.sampled_from(["plan", "cohort"]), st.lists(attribute_values, min_size=1).map(tuple)
    ),
)


def naive(wanted: Filter, profile: Profile) -> bool:
    """The rules as docs/topics.md tells them."""
    speaks = [part.lower() for part in profile.language.replace("_", "-").split("-")]
    known = msgspec.json.decode(profile.attributes or "{}", type=dict[str, str])
    asked = [
        not wanted.platform or profile.platform in [one.lower() for one in wanted.platform],
        not wanted.region or profile.region.lower() in [one.lower() for one in wanted.region],
        not wanted.language
        or any(
            speaks[: len(parts)] == parts
            for parts in (one.lower().replace("_", "-").split("-") for one in wanted.language)
        ),
        not wanted.app_version or profile.app_version == "2.3.0",
        all(name in known and known[name] in some for name, some in wanted.attributes.items()),
    ]
    return all(asked)


@pytest.mark.slow
@given(filters, st.lists(profiles, max_size=4))
def test_a_filter_follows_its_rules_for_each_device(wanted: Filter, devices: list[Profile]) -> None:
    matcher = Matcher(wanted)
    for profile in [*devices, *devices]:
        assert matcher.matches(profile) == naive(wanted, profile)


def test_condition_and_filter_must_both_hold() -> None:
    both = Admission(Selection("'a' in topics", Filter(platform=("ios",))))
    ios, web = Profile(platform="ios"), Profile(platform="web")
    assert both.admits(ios, {"a"}.__contains__)
    assert not both.admits(ios, set[str]().__contains__)
    assert not both.admits(web, {"a"}.__contains__)


def test_everybody_has_no_admission() -> None:
    assert admission("") is None


def test_nobody_is_admitted_where_nobody_is_meant() -> None:
    assert not Admission.of_nobody().admits(Profile("ios"), lambda _: True)


@pytest.mark.parametrize("text", ["{", "[]", '{"condition":"\'a\' near topics"}'])
def test_an_selection_of_another_form_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        admission(text)
