"""A scenario says what it takes, and a bad one what is wrong with it."""

import pytest

from loadtest import catalog
from loadtest.run.spec import Cut, Kill, Restart, SpecError, Targets, parse

MINIMAL = """
devices = 5
rate = 20.5
duration = "1.5m"
targets = { token = 1, topic = 3 }

[gateway]
shards = 2
settings = { lease_s = 2.0, durability = "fsync" }

[[faults]]
do = "kill"
at = 3

[[faults]]
do = "cut"
at = "250ms"
share = 0.5
away = "2s"

[[faults]]
do = "restart"
at = 1
roles = ["api", "shard"]
"""


def test_every_field_is_read() -> None:
    spec = parse(MINIMAL)
    assert (spec.devices, spec.rate, spec.duration) == (5, 20.5, 90.0)
    assert spec.targets == Targets(token=1, topic=3)
    assert (spec.gateway.shards, spec.gateway.apis) == (2, 1)
    assert spec.gateway.settings == {"lease_s": 2.0, "durability": "fsync"}
    kill, cut, restart = spec.faults
    assert isinstance(kill, Kill)
    assert isinstance(cut, Cut)
    assert isinstance(restart, Restart)
    assert (kill.at, kill.role, kill.every) == (3.0, "shard", 0.0)
    assert (cut.at, cut.share, cut.away) == (0.25, 0.5, 2.0)
    assert restart.roles == ("api", "shard")
    assert spec.needs_own_gateway


def test_what_is_left_out_has_a_default() -> None:
    spec = parse("")
    assert spec.targets == Targets(token=1.0)
    assert not spec.faults
    assert not spec.needs_own_gateway


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("devices=7", "devices", 7),
        ("duration=10s", "duration", 10.0),
        ("duration = '2h'", "duration", 7200.0),
        ("device_kind=sdk", "device_kind", "sdk"),
        ("callbacks=true", "callbacks", True),
        ("faults=[]", "faults", ()),
        ("targets={ user = 1.0 }", "targets", Targets(user=1.0)),
    ],
)
def test_a_field_is_set_from_outside(override: str, field: str, value: object) -> None:
    assert getattr(parse(MINIMAL, [override]), field) == value


def test_a_field_of_a_table_is_set_from_outside() -> None:
    spec = parse(MINIMAL, ["gateway.shards=4", "gateway.settings.drain_s=1", "bounds.p99_ms=20"])
    assert (spec.gateway.shards, spec.bounds.p99_ms) == (4, 20.0)
    assert spec.gateway.settings["drain_s"] == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("devices = 'x'", "devices: accepts a whole number from 1 to 1000000, not 'x'"),
        ("devices = 0", "devices: accepts a whole number from 1 to 1000000, not 0"),
        ("devices = true", "devices: accepts a whole number from 1 to 1000000, not True"),
        ("device = 5", "unknown field device: accepts about, devices, device_kind,"),
        ("rate = nan", "rate: accepts finite numbers, not nan"),
        ("rate = -1", "rate: accepts messages a second, 0 to 100000, not -1"),
        ("duration = '5 years'", 'duration: accepts seconds, or a text such as "90s", "5m"'),
        ("duration = 0", "duration: accepts seconds"),
        ("duration = -3", "duration: accepts seconds"),
        ("ttl = '41000m'", "ttl: accepts seconds"),
        ("payload = 5000", "payload: accepts bytes of data in a message, 80 to 4000, not 5000"),
        ("arrivals = 'bursts'", "arrivals: accepts poisson or constant, not 'bursts'"),
        ("targets = { token = 0 }", "targets: accepts shares of which one at least is above 0"),
        ("targets = { phone = 1 }", "unknown field phone in targets: accepts token, user, topic"),
        ("gateway = { shards = 0 }", "gateway.shards: accepts a whole number from 1 to 64, not 0"),
        ("gateway = 3", "gateway: accepts a table: the gateway to start, not 3"),
        ("faults = [1]", "faults[0]: accepts tables with do = kill, restart or cut, not 1"),
        ("faults = [{ at = 1 }]", "faults[0].do: is missing; accepts kill, restart or cut"),
        ("faults = [{ do = 'burn', at = 1 }]", "faults[0].do: accepts kill, restart or cut"),
        ("faults = [{ do = 'kill' }]", "faults[0].at: is missing; accepts seconds"),
        (
            "faults = [{ do = 'kill', at = 99 }]",
            "duration: accepts more than 99 s, when the first of the faults is due",
        ),
        (
            "faults = [{ do = 'kill', at = 1, role = 'moon' }]",
            "faults[0].role: accepts api, shard, worker or store, not 'moon'",
        ),
        ("faults = [{ do = 'cut', at = 1, role = 'api' }]", "unknown field role in faults[0]"),
        ("device_kind = 'sdk'\ndevices = 5000", "devices: accepts at most 2000 where"),
        ("callbacks = true\nreceipts = 'none'", "receipts: accepts device where callbacks"),
        ("devices = ", "not TOML: "),
    ],
)
def test_a_bad_scenario_names_the_field_and_what_it_accepts(text: str, says: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse(text)
    assert says in str(refused.value)


@pytest.mark.parametrize("override", ["devices", "=5", "devices.count=3", "gateway..x=1"])
def test_a_bad_override_is_refused(override: str) -> None:
    with pytest.raises(SpecError):
        parse("devices = 5", [override])


@pytest.mark.parametrize("name", catalog.names())
def test_a_scenario_that_comes_along_is_good_and_says_what_it_shows(name: str) -> None:
    spec = parse(catalog.text_of(name)[1])
    assert spec.about.endswith(".")


def test_the_scenarios_are_all_there() -> None:
    assert set(catalog.names()) == {
        "connect-storm",
        "fan-out",
        "idle",
        "kill-shard",
        "kill-shard-15000",
        "offline-resume",
        "rolling-restart",
        "slow-consumers",
        "soak",
        "steady",
        "store-failover",
        "store-restart",
    }


def test_an_unknown_scenario_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(SpecError, match=r"no scenario 'stead': accepts connect-storm, .*steady"):
        catalog.text_of("stead")
    with pytest.raises(SpecError, match=r"nowhere\.toml: No such file"):
        catalog.text_of("nowhere.toml")
