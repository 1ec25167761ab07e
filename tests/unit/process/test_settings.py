"""Settings: precedence, what is refused, and the page that documents them."""

from pathlib import Path

import pytest

from gateway.cli.commands.settings import page
from gateway.settings import (
    Durability,
    Settings,
    SettingsError,
    fields,
    given_names,
    load,
    to_environment,
)


def _toml(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "pushwire.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("flag", "variable", "line", "expected"),
    [
        (None, None, None, 8080),
        (None, None, "api_port = 3", 3),
        (None, "2", "api_port = 3", 2),
        ("1", "2", "api_port = 3", 1),
        ("1", None, "api_port = 3", 1),
        (None, "", "api_port = 3", 3),
    ],
)
def test_flag_before_environment_before_file_before_default(
    tmp_path: Path, flag: str | None, variable: str | None, line: str | None, expected: int
) -> None:
    if line:
        _toml(tmp_path, line)
    environ = {} if variable is None else {"PUSHWIRE_API_PORT": variable}
    found = load({"api_port": flag}, environ=environ, directory=tmp_path)
    assert found.api_port == expected


def test_file_is_found_in_the_data_directory(tmp_path: Path) -> None:
    _toml(tmp_path / "data", "shards = 3")
    found = load({"data_dir": str(tmp_path / "data")}, environ={}, directory=tmp_path)
    assert found.shards == 3


def test_named_file_goes_before_the_working_directory(tmp_path: Path) -> None:
    _toml(tmp_path, "shards = 3")
    named = _toml(tmp_path / "other", 'durability = "fsync"')
    found = load({}, config=named, environ={}, directory=tmp_path)
    assert (found.shards, found.durability) == (1, Durability.FSYNC)
    by_environment = load({}, environ={"PUSHWIRE_CONFIG": str(named)}, directory=tmp_path)
    assert by_environment == found


@pytest.mark.parametrize(
    ("name", "value", "accepts"),
    [
        ("api_port", "abc", "a whole number from 0 to 65535"),
        ("api_port", "65536", "a whole number from 0 to 65535"),
        ("shards", "0", "a whole number from 1 to 64"),
        ("durability", "sometimes", "everysec or fsync"),
        ("ack_timeout_s", "0", "a number above 0"),
        ("ack_timeout_s", "inf", "a number above 0"),
        ("heartbeat_s", "nan", "a number of at least 1"),
        ("log_level", "loud", "debug or info or warning or error"),
        ("region", "Europe", "text that matches [a-z0-9-]{1,32}"),
        ("max_connections", "1.5", "a whole number of at least 0"),
    ],
)
def test_bad_value_is_refused_with_name_and_what_is_accepted(
    tmp_path: Path, name: str, value: str, accepts: str
) -> None:
    cases: tuple[tuple[dict[str, object], dict[str, str], str], ...] = (
        ({name: value}, {}, "--" + name.replace("_", "-")),
        ({}, {"PUSHWIRE_" + name.upper(): value}, "PUSHWIRE_" + name.upper()),
    )
    for flags, environ, origin in cases:
        with pytest.raises(SettingsError) as caught:
            load(flags, environ=environ, directory=tmp_path)
        assert str(caught.value) == f"{origin}: accepts {accepts}, not {value!r}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("api_prot = 1", "api_prot is not a setting; did you mean api_port?"),
        ("xyzzy = 1", "xyzzy is not a setting"),
        ("api_port = 'x'", "api_port: accepts a whole number from 0 to 65535, not 'x'"),
        ("api_port", "is not TOML"),
    ],
)
def test_bad_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = _toml(tmp_path, text)
    with pytest.raises(SettingsError, match=str(path)) as caught:
        load({}, environ={}, directory=tmp_path)
    assert says in str(caught.value)


def test_missing_named_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load({}, config=tmp_path / "none.toml", environ={})


def test_certificate_and_key_come_together(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="tls_cert and tls_key"):
        load({"tls_cert": "c.pem"}, environ={}, directory=tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "store:6379",
        "http://store",
        "redis://:pa/55@store",
        "redis://store:pa55",
        "redis://s/x",
        "unix://",
    ],
)
def test_a_store_url_is_checked_and_not_shown(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="store_url: accepts redis://") as caught:
        load({"store_url": url}, environ={}, directory=tmp_path)
    assert "55" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_data_directory_is_not_the_empty_text(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--data-dir: accepts a path, not ''"):
        load({"data_dir": ""}, environ={}, directory=tmp_path)


def test_a_device_url_has_the_scheme_of_a_websocket(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="device_url: accepts a URL like wss://"):
        load({"device_url": "https://push.example.com"}, environ={}, directory=tmp_path)


def test_admin_key_is_not_shown_in_errors(tmp_path: Path) -> None:
    _toml(tmp_path, "admin_key = 12345")
    with pytest.raises(SettingsError) as caught:
        load({}, environ={}, directory=tmp_path)
    assert "12345" not in str(caught.value)


def test_child_reads_the_same_settings(tmp_path: Path) -> None:
    _toml(tmp_path, "shards = 3")
    ours = Settings(data_dir=Path("/x y"), store_url="unix:///a%20b", api_port=0, ack_timeout_s=0.5)
    assert load({}, environ=to_environment(ours), directory=tmp_path) == ours


def test_given_names_leave_defaults_out(tmp_path: Path) -> None:
    config = _toml(tmp_path, "shards = 3")
    assert given_names({"api_port": "1", "host": None}, config=config) >= {"api_port", "shards"}
    assert "host" not in given_names({}, config=config)


def test_every_setting_is_documented() -> None:
    for field in fields():
        assert field.help.endswith("."), field.name
        assert field.accepts


def test_page_of_settings_is_up_to_date() -> None:
    path = Path(__file__).parents[3] / "docs" / "settings.md"
    assert path.read_text() == page(), "run: pushwire settings --markdown > docs/settings.md"
