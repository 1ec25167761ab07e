"""Only an order that was promised can be broken."""

from loadtest.run.account import Fault
from loadtest.run.judge import out_of_promised_order
from loadtest.run.spec import parse

LATE = [Fault(1, "user 0", 2), Fault(1, "token 1", 3)]


def test_without_faults_every_order_is_promised() -> None:
    assert out_of_promised_order(LATE, parse("rate = 1")) == (LATE, 0)
    cut = parse('[[faults]]\ndo = "cut"\nat = 1')
    assert out_of_promised_order(LATE, cut) == (LATE, 0)


def test_where_processes_die_a_worker_may_finish_messages_to_users_later() -> None:
    kill = parse('[[faults]]\ndo = "kill"\nat = 1')
    assert out_of_promised_order(LATE, kill) == (LATE[1:], 1)
