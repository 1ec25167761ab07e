"""Conditions against Python's own `and`, `or`, `not`, and against text of any kind."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model.ids import TopicName
from router.policy.conditions import (
    MAX_CHARS,
    MAX_DEPTH,
    All,
    Any,
    Condition,
    ConditionError,
    Has,
    Node,
    Not,
    canonical,
    parse_condition,
)

TOPICS = [TopicName(name) for name in ("a", "b-1", "c_%2F", "d.e~", "E")]

nodes: st.SearchStrategy[Node] = st.recursive(
    st.sampled_from(TOPICS).map(Has),
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda terms: All(tuple(terms))),
        st.lists(inner, min_size=2, max_size=3).map(lambda terms: Any(tuple(terms))),
    ),
    max_leaves=12,
)
spaces = st.sampled_from(["", " ", "  ", "\t\n"])


def python(node: Node) -> str:
    """The same as an expression of Python over `topics`."""
    if isinstance(node, Has):
        return f"({node.topic!r} in topics)"
    if isinstance(node, Not):
        return f"(not {python(node.term)})"
    word = " and " if isinstance(node, All) else " or "
    return f"({word.join(python(term) for term in node.terms)})"


def written(draw: st.DrawFn, node: Node, depth: int = 0) -> str:
    """The same as FCM writes it, spaced, quoted and bracketed as it comes."""
    gap = draw(spaces)
    if isinstance(node, Has):
        quote = draw(st.sampled_from("'\""))
        prefix = draw(st.sampled_from(["", "/topics/"]))
        text = f"{quote}{prefix}{node.topic}{quote}{gap}in topics{gap}"
    elif isinstance(node, Not):
        inner = written(draw, node.term, depth + 1)
        bare = isinstance(node.term, Has | Not) and draw(st.booleans())
        text = f"!{gap}{inner}" if bare else f"!{gap}({inner}){gap}"
    else:
        sign = "&&" if isinstance(node, All) else "||"
        parts = [written(draw, term, depth + 1) for term in node.terms]
        # What binds less tightly must stand in brackets; any other may.
        parts = [
            f"({part})" if isinstance(term, Any) and isinstance(node, All) else part
            for part, term in zip(parts, node.terms, strict=True)
        ]
        text = f"{gap}{sign}{gap}".join(parts)
    return f"({text})" if depth < 4 and draw(st.integers(0, 4)) == 0 else text


def truth(condition: Condition) -> list[bool]:
    found = []
    for row in product([False, True], repeat=len(TOPICS)):
        have = {topic for topic, is_in in zip(TOPICS, row, strict=True) if is_in}
        found.append(condition.holds(have.__contains__))
    return found


def expected(node: Node) -> list[bool]:
    code = compile(python(node), "condition", "eval")
    found = []
    for row in product([False, True], repeat=len(TOPICS)):
        have = {topic for topic, is_in in zip(TOPICS, row, strict=True) if is_in}
        found.append(bool(eval(code, {"topics": have})))  # noqa: S307 - made of `python` alone
    return found


@pytest.mark.slow
@given(st.data())
def test_a_condition_means_what_it_means_in_python(data: st.DataObject) -> None:
    node = data.draw(nodes)
    text = data.draw(st.composite(written)(node))
    condition = parse_condition(text)
    assert truth(condition) == expected(node)


@given(nodes)
def test_the_canonical_form_means_the_same_and_is_stable(node: Node) -> None:
    condition = parse_condition(canonical(node))
    assert truth(condition) == expected(node)
    again = parse_condition(condition.text)
    assert again == condition


@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from(
                ["'a'", '"b"', "in", "topics", "&&", "||", "!", "(", ")", "'", '"', "&", " ", "x"]
            ),
            max_size=24,
        ).map(" ".join),
    )
)
def test_any_text_gives_a_condition_or_an_error_that_points_into_it(text: str) -> None:
    refused = attempt(text)
    if refused is not None:
        assert 1 <= refused.column <= len(text) + 1
        assert str(refused).startswith(f"column {refused.column}: ")
    else:
        condition = parse_condition(text)
        assert parse_condition(condition.text) == condition


def attempt(text: str) -> ConditionError | None:
    try:
        parse_condition(text)
    except ConditionError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("", 1, "expected a topic in quotes"),
        ("'a' in topics &&", 17, "expected a topic in quotes"),
        ("'a' in topics & 'b' in topics", 15, "&&"),
        ("'a' in topics 'b' in topics", 15, "expected && or ||"),
        ("('a' in topics", 15, "or )"),
        ("'a' in topics)", 14, "expected && or ||"),
        ("'a' in topic", 8, "`topics`"),
        ("a in topics", 1, "expected a topic in quotes"),
        ("'a' not in topics", 5, "`in topics`"),
        ("'a b' in topics", 1, "1 to 900 characters"),
        ("'' in topics", 1, "1 to 900 characters"),
        ("'*' in topics", 1, "1 to 900 characters"),
        ("'a in topics", 1, "the quote has no end"),
        ("(" * (MAX_DEPTH + 1), MAX_DEPTH + 1, "at most 32 deep"),
        ("!" * MAX_CHARS + "'a' in topics", MAX_CHARS + 1, "at most 8192 characters"),
        (" && ".join(f"'{name}' in topics" for name in "abcdef"), 86, "at most 5"),
    ],
)
def test_an_error_points_at_the_column_and_says_what_is_accepted(
    text: str, column: int, says: str
) -> None:
    with pytest.raises(ConditionError) as refusal:
        parse_condition(text)
    assert refusal.value.column == column
    assert says in refusal.value.problem


def test_and_binds_before_or() -> None:
    condition = parse_condition("'a' in topics || 'b' in topics && 'c' in topics")
    assert condition.holds({"a"}.__contains__)
    assert not condition.holds({"b"}.__contains__)
    assert condition.holds({"b", "c"}.__contains__)


def test_a_topic_may_be_named_often_and_what_is_long_in_canonical_form_is_refused() -> None:
    often = " || ".join(["'a' in topics"] * 400)
    assert parse_condition(often).topics == ("a",)
    dense = "||".join(["'a'in topics"] * 500)
    with pytest.raises(ConditionError, match="at most 8192 characters"):
        parse_condition(dense)


def test_brackets_as_deep_as_allowed_have_a_canonical_form_that_is_accepted() -> None:
    text = "!'b' in topics"
    for at in range(MAX_DEPTH):
        text = f"{'!' if at % 2 else ''}({text} && 'a' in topics)"
    condition = parse_condition(text)
    assert parse_condition(condition.text) == condition
