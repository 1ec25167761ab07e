"""How many connections one address may open."""

from gateway.addresses import Clients, parse_proxies
from gateway.shard import doorkeeper
from gateway.shard.doorkeeper import Doorkeeper
from router.model.limits import UNLIMITED, Rate
from tests.unit.shard.pipe import Bench

RATE = Rate(1.0, 3.0)
PEER = "198.51.100.1"


class Door:
    def __init__(self, rate: Rate = RATE, proxies: str = "") -> None:
        self.now_s = 1000.0
        self.keeper = Doorkeeper(Clients(parse_proxies(proxies)), rate, lambda: self.now_s)

    def opened(self, peer: str, times: int = 1) -> int:
        return sum(self.keeper.at_accept(peer) is None for _ in range(times))


def test_a_burst_is_let_in_and_then_the_rate() -> None:
    door = Door()
    assert door.opened(PEER, 5) == 3
    refusal = door.keeper.at_accept(PEER)
    assert refusal is not None
    assert (refusal.status, refusal.retry_after_s) == (429, 1)
    door.now_s += 2
    assert door.opened(PEER, 5) == 2


def test_addresses_do_not_pay_for_each_other() -> None:
    door = Door()
    door.opened(PEER, 5)
    assert door.opened("198.51.100.2") == 1
    assert door.opened("2001:db8:1:2::1", 3) == 3
    assert door.opened("2001:db8:1:2::9") == 0
    assert door.opened("2001:db8:1:3::9") == 1


def test_loopback_and_no_limit_let_everybody_in() -> None:
    assert Door().opened("127.0.0.1", 50) == 50
    assert Door(UNLIMITED).opened(PEER, 50) == 50


def test_who_comes_through_a_proxy_is_judged_by_what_the_proxy_says() -> None:
    door = Door(proxies="10.0.0.0/8")
    assert door.opened("10.1.1.1", 50) == 50
    judged = [door.keeper.behind_proxy("10.1.1.1", [PEER], []) for _ in range(4)]
    assert [refusal is None for refusal in judged] == [True, True, True, False]
    # Whoever connects without a proxy was judged at accept.
    assert door.keeper.behind_proxy(PEER, ["203.0.113.9"], []) is None


def test_the_table_forgets_the_quiet_and_keeps_its_bound() -> None:
    door = Door()
    for number in range(100):
        door.opened(f"198.51.100.{number}")
    assert len(door.keeper) == 100
    door.now_s += 60
    for number in range(60):
        door.opened(f"203.0.113.{number}")
    assert len(door.keeper) == 60 + 100 - 2 * 50
    for number in range(doorkeeper.MAX_ADDRESSES + 10):
        door.opened(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(door.keeper) == doorkeeper.MAX_ADDRESSES


def test_a_connection_too_many_hears_429_before_its_request_is_read() -> None:
    bench = Bench(peer=PEER, doorkeeper=Door(Rate(0.5, 1.0)).keeper)
    assert bench.pipe.taken() == b""
    again = bench.another()
    assert again.taken().startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert bench.refusals == ["address"]


def test_a_client_behind_a_proxy_hears_429_for_its_request() -> None:
    keeper = Door(Rate(0.5, 1.0), "10.0.0.0/8").keeper
    bench = Bench(peer="10.1.1.1", doorkeeper=keeper)
    head = b"GET /v1/connect HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.1.1.1, 198.51.100.1\r\n\r\n"
    keeper.behind_proxy("10.1.1.1", [PEER], [])
    bench.connection.data_received(head)
    answer = bench.pipe.taken()
    assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"Retry-After: 2\r\n" in answer
