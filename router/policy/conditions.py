"""Conditions over topics, as FCM writes them: `'a' in topics && ('b' in topics || !'c' in topics)`.

Pure. A condition names at most five topics, so all that it says is one truth table of at most 32
rows: a device's topics choose the row. Grammar, `&&` before `||`:

    any  = all { "||" all }        all  = not { "&&" not }
    not  = { "!" } ( "(" any ")" | quoted "in" "topics" )
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from router.model.ids import TopicName, parse_topic

MAX_TOPICS: Final = 5
"""Different topics of one condition, as in FCM."""
MAX_CHARS: Final = 8_192
MAX_DEPTH: Final = 32
"""Brackets within brackets."""

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<word>&&|\|\||[!()]|[A-Za-z]+)"
    r"|'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\"|(?P<odd>\S))"
)
_TERM: Final = "a topic in quotes, ! or ("
_NAME: Final = "a topic of 1 to 900 characters of a-z, A-Z, 0-9, -, _, ., ~ and %"
_LONG: Final = f"at most {MAX_CHARS} characters are accepted"
_END: Final = ""


class ConditionError(ValueError):
    """A text is no condition.

    Args:
        column: where, counted from 1; one beyond the last character for what is missing.
        problem: what is wrong, and what is accepted.
    """

    def __init__(self, column: int, problem: str) -> None:
        super().__init__(f"column {column}: {problem}")
        self.column = column
        self.problem = problem


class Has(msgspec.Struct, frozen=True, gc=False):
    """The device subscribes to a topic."""

    topic: TopicName


class Not(msgspec.Struct, frozen=True, gc=False):
    """The term does not hold."""

    term: "Node"


class All(msgspec.Struct, frozen=True, gc=False):
    """Every term holds."""

    terms: tuple["Node", ...]


class Any(msgspec.Struct, frozen=True, gc=False):
    """At least one term holds."""

    terms: tuple["Node", ...]


Node = Has | Not | All | Any


class Condition(msgspec.Struct, frozen=True, gc=False):
    """A condition, ready to be asked."""

    text: str
    """In its canonical form: it parses to the same condition."""
    topics: tuple[TopicName, ...]
    table: int
    """Bit `row` tells whether it holds; bit `i` of the row whether topic `i` is subscribed to."""

    def holds(self, subscribed: Callable[[TopicName], bool]) -> bool:
        """Tell whether the condition holds for who subscribes to just these topics."""
        row = 0
        for at, topic in enumerate(self.topics):
            if subscribed(topic):
                row |= 1 << at
        return bool(self.table >> row & 1)


def parse_condition(text: str) -> Condition:
    """Read a condition.

    Raises:
        ConditionError: the text is none.
    """
    if len(text) > MAX_CHARS:
        raise ConditionError(MAX_CHARS + 1, _LONG)
    parser = _Parser(text)
    node = parser.whole()
    topics, written = tuple(parser.topics), canonical(node)
    if len(written) > MAX_CHARS:
        raise ConditionError(
            len(text) + 1, f"{len(written)} characters with single spaces; {_LONG}"
        )
    return Condition(written, topics, _table(node, topics))


def canonical(node: Node) -> str:
    """Write a condition in one way: single quotes, single spaces, brackets where they say more."""
    if isinstance(node, Has):
        return f"'{node.topic}' in topics"
    if isinstance(node, Not):
        inner = canonical(node.term)
        # No bracket that was not there before: their depth is bounded.
        return f"!{inner}" if isinstance(node.term, Has) else f"!({inner})"
    if isinstance(node, All):
        written = [canonical(term) for term in node.terms]
        pairs = zip(node.terms, written, strict=True)
        return " && ".join(f"({part})" if isinstance(term, Any) else part for term, part in pairs)
    return " || ".join(canonical(term) for term in node.terms)


def _table(node: Node, topics: tuple[TopicName, ...]) -> int:
    """Work out all rows at once: the rows in which a topic is subscribed to are a fixed pattern."""
    full = (1 << (1 << len(topics))) - 1
    if isinstance(node, Has):
        at = topics.index(node.topic)
        return sum(1 << row for row in range(1 << len(topics)) if row >> at & 1)
    if isinstance(node, Not):
        return full & ~_table(node.term, topics)
    tables = [_table(term, topics) for term in node.terms]
    result = tables[0]
    for table in tables[1:]:
        result = result & table if isinstance(node, All) else result | table
    return result


class _Token(NamedTuple):
    kind: str
    """An operator, a bracket, a word; `'` for a topic in quotes; empty for the end."""
    text: str
    column: int


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while match := _TOKEN.match(text, at):
        at = match.end()
        kind, piece = str(match.lastgroup), match[str(match.lastgroup)]
        if kind == "odd":
            problem = "the quote has no end" if piece in "'\"" else f"expected {_TERM}, && or ||"
            raise ConditionError(at, problem)
        column = match.start(kind) + 1
        found.append(
            _Token(piece, piece, column) if kind == "word" else _Token("'", piece, column - 1)
        )
    found.append(_Token(_END, _END, len(text) + 1))
    return found


class _Parser:
    """Recursive descent; the depth of brackets is bounded, and so is the recursion."""

    def __init__(self, text: str) -> None:
        self.topics: dict[TopicName, None] = {}
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._any()
        if self._next.kind != _END:
            raise self._expected("&& or ||")
        return node

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, kind: str) -> bool:
        if self._next.kind != kind or kind == _END:
            return False
        self._at += 1
        return True

    def _expected(self, accepted: str) -> ConditionError:
        token = self._next
        seen = "the end" if token.kind == _END else f"{token.text[:40]!r}"
        return ConditionError(token.column, f"expected {accepted}, not {seen}")

    def _any(self) -> Node:
        terms = _flat(Any, [self._all()])
        while self._take("||"):
            terms += _flat(Any, [self._all()])
        return terms[0] if len(terms) == 1 else Any(tuple(terms))

    def _all(self) -> Node:
        terms = _flat(All, [self._not()])
        while self._take("&&"):
            terms += _flat(All, [self._not()])
        return terms[0] if len(terms) == 1 else All(tuple(terms))

    def _not(self) -> Node:
        negated = False
        while self._take("!"):
            negated = not negated
        node = self._primary()
        if not negated:
            return node
        return node.term if isinstance(node, Not) else Not(node)

    def _primary(self) -> Node:
        token = self._next
        if self._take("("):
            if self._depth == MAX_DEPTH:
                raise ConditionError(token.column, f"brackets nest at most {MAX_DEPTH} deep")
            self._depth += 1
            node = self._any()
            self._depth -= 1
            if not self._take(")"):
                raise self._expected("&&, || or )")
            return node
        if not self._take("'"):
            raise self._expected(_TERM)
        topic = self._topic(token)
        for word in ("in", "topics"):
            if not self._take(word):
                raise self._expected("`in topics`" if word == "in" else "`topics`")
        return Has(topic)

    def _topic(self, token: _Token) -> TopicName:
        topic = parse_topic(token.text)
        if topic is None:
            raise ConditionError(token.column, f"expected {_NAME}")
        self.topics[topic] = None
        if len(self.topics) > MAX_TOPICS:
            problem = f"a condition names at most {MAX_TOPICS} different topics"
            raise ConditionError(token.column, problem)
        return topic


def _flat(kind: type[All | Any], terms: list[Node]) -> list[Node]:
    """Take terms of the same kind into the row: `a && (b && c)` is `a && b && c`."""
    return [one for term in terms for one in (term.terms if isinstance(term, kind) else (term,))]
