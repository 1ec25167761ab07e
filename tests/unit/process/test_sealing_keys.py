"""The keys that seal, as a setting and as a file."""

import base64
import os
import stat
from pathlib import Path

import pytest

from gateway.sealing_keys import read_keys, write_key
from gateway.settings import Settings, SettingsError, load
from gateway.supervisor.ground import secret_key

ONE, TWO = bytes(range(32)), b"\xff" * 32


@pytest.mark.parametrize(
    "text",
    [
        f"{write_key(ONE)},{write_key(TWO)}",
        f" {write_key(ONE)}\n{write_key(TWO)}\n",
        f"{base64.urlsafe_b64encode(ONE).decode().rstrip('=')}, {write_key(TWO)}",
    ],
)
def test_keys_are_read_in_their_order(text: str) -> None:
    assert read_keys(text) == (ONE, TWO)
    assert read_keys("") == ()


@pytest.mark.parametrize("text", ["short", "é" * 44, write_key(ONE)[:-4], f"{write_key(ONE)};"])
def test_what_is_no_key_stops_the_start_and_is_not_repeated(text: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="secret_key: accepts base64 of 32 bytes") as refused:
        load({"secret_key": text}, environ={}, directory=tmp_path)
    assert text not in str(refused.value)
    assert refused.value.__cause__ is None


def test_the_embedded_store_gets_a_key_of_its_own_once(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    made = secret_key(settings, os.urandom)
    (key,) = read_keys(made)
    assert key != bytes(32)
    assert secret_key(settings, os.urandom) == made
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600


def test_an_external_store_gets_none_and_takes_what_is_there(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, store_url="redis://store")
    assert secret_key(settings, os.urandom) == ""
    assert not (tmp_path / "secret.key").exists()
    (tmp_path / "secret.key").write_text(f"{write_key(TWO)}\n{write_key(ONE)}\n")
    assert read_keys(secret_key(settings, os.urandom)) == (TWO, ONE)


def test_the_setting_goes_before_the_file(tmp_path: Path) -> None:
    secret_key(Settings(data_dir=tmp_path), os.urandom)
    given = write_key(TWO)
    assert secret_key(Settings(data_dir=tmp_path, secret_key=given), os.urandom) == given


def test_a_file_that_holds_no_key_is_named_and_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_text("hunter2")
    with pytest.raises(SettingsError, match=r"secret\.key: accepts") as refused:
        secret_key(Settings(data_dir=tmp_path), os.urandom)
    assert "hunter2" not in str(refused.value)
