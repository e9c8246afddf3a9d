"""Settings: where they come from, and what the errors for wrong ones say."""

import re
from pathlib import Path

import pytest

from captionist.errors import SettingsError
from captionist.server.settings import Settings, describe, load_settings, read_secret


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_command_line_outranks_the_environment_which_outranks_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "captionist.toml").write_text('port = 1\nhost = "127.0.0.2"\nmax_queue = 3\n')
    monkeypatch.setenv("CAPTIONIST_PORT", "2")
    monkeypatch.setenv("CAPTIONIST_HOST", "127.0.0.3")
    settings = load_settings(port=4)
    assert (settings.port, settings.host, settings.max_queue) == (4, "127.0.0.3", 3)


def test_the_file_may_be_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "service.toml"
    path.write_text(f'[[api_keys]]\nname = "site"\nsha256 = "{"0" * 64}"\nrate = "5/minute"\n')
    monkeypatch.setenv("CAPTIONIST_CONFIG", str(path))
    assert load_settings(host="0.0.0.0").api_keys[0].name == "site"
    monkeypatch.setenv("CAPTIONIST_CONFIG", str(tmp_path / "missing.toml"))
    with pytest.raises(SettingsError, match="CAPTIONIST_CONFIG"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "70000", "CAPTIONIST_PORT must be at most 65535"),
        ("MAX_BATCH", "many", "CAPTIONIST_MAX_BATCH"),
        ("ANONYMOUS_RATE", "often", "CAPTIONIST_ANONYMOUS_RATE: 'often' is not a rate such as 60/minute"),
        ("CORS_ORIGINS", '["example.org"]', r"CAPTIONIST_CORS_ORIGINS\[0\]: .* is not an origin"),
        ("API_KEYS", "secret", "CAPTIONIST_API_KEYS.*JSON"),
        ("API_KEYS", "[", "CAPTIONIST_API_KEYS.*JSON"),
        ("PORT", "tcp:8000", "CAPTIONIST_PORT"),
        ("DATABASE_URL", "postgresql+psycopg2://user:hidden@host/db", "driver psycopg2 .* postgresql://"),
        ("DATABASE_URL", "postgres+asyncpg://user:hidden@host/db", "driver asyncpg .* postgres://"),
        ("DATABASE_URL", "sqlite+aiosqlite:///a.db", "driver aiosqlite .* sqlite://"),
        ("DATABASE_URL", "sqlite://", "CAPTIONIST_DATABASE_URL: .* needs a file"),
        ("DATABASE_URL", "jdbc:postgresql://host/db", "CAPTIONIST_DATABASE_URL: this is not a database URL"),
        ("API_KEYS", '[{"name": "a", "sha256": "secret"}]', r"CAPTIONIST_API_KEYS\[0\]\[sha256\]"),
        ("DATABASE_URL", "mysql://user:hidden@host/db", "CAPTIONIST_DATABASE_URL: mysql databases are not supported"),
        ("SECRET", "short", "CAPTIONIST_SECRET: .*32"),
        ("MAX_PICTURE_BYTE", "1", "CAPTIONIST_MAX_PICTURE_BYTE: no such setting"),
        ("HOST", "0.0.0.0", "CAPTIONIST_API_KEYS.*CAPTIONIST_ALLOW_ANONYMOUS=true"),
    ],
)
def test_a_wrong_value_is_told_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"CAPTIONIST_{name}", value)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert re.search(said, str(raised.value)), raised.value
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("service", ["", "API_", "WEB_2_"])
def test_what_kubernetes_says_of_a_service_is_no_setting(monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    """A Service whose name begins with captionist puts these into every container of its namespace."""
    address, link = "10.0.0.7", "tcp://10.0.0.7:8000"
    for name, value in {
        "SERVICE_HOST": address,
        "SERVICE_PORT": "8000",
        "SERVICE_PORT_HTTP": "8000",
        "PORT": link,
        "PORT_8000_TCP": link,
        "PORT_8000_TCP_PROTO": "tcp",
        "PORT_8000_TCP_PORT": "8000",
        "PORT_8000_TCP_ADDR": address,
    }.items():
        monkeypatch.setenv(f"CAPTIONIST_{service}{name}", value)
    assert load_settings().port == 8000
    assert load_settings(port=9000).port == 9000


@pytest.mark.parametrize("value", ["", " ", "\r"])
def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    for name in (*Settings.model_fields, "config"):
        monkeypatch.setenv(f"CAPTIONIST_{name.upper()}", value)
    assert load_settings() == Settings.model_construct()


@pytest.mark.parametrize(("value", "level"), [("debug\r", "debug"), ("INFO", "info"), (" Warning ", "warning")])
def test_a_value_may_be_written_as_people_do(monkeypatch: pytest.MonkeyPatch, value: str, level: str) -> None:
    monkeypatch.setenv("CAPTIONIST_LOG_LEVEL", value)
    assert load_settings().log_level == level


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "POSTGRES"])
def test_postgresql_has_several_names(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("CAPTIONIST_DATABASE_URL", f"{scheme}://user:p%40ss@host:5433/db?sslmode=require")
    assert load_settings().sqlalchemy_url == "postgresql+psycopg://user:p%40ss@host:5433/db?sslmode=require"


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "captionist.toml").write_bytes(b"\xef\xbb\xbfport = 1234\r\n")
    assert load_settings().port == 1234
    (tmp_path / "captionist.toml").write_text("port = 1234", encoding="utf-16")
    with pytest.raises(SettingsError, match=r"captionist\.toml cannot be read: .*utf-8"):
        load_settings()


def test_a_file_that_is_not_toml_is_told(tmp_path: Path) -> None:
    (tmp_path / "captionist.toml").write_text("port 1")
    with pytest.raises(SettingsError, match=r"captionist\.toml"):
        load_settings()
    (tmp_path / "captionist.toml").write_text("prot = 1")
    with pytest.raises(SettingsError, match="CAPTIONIST_PROT"):
        load_settings()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_loopback_needs_no_keys(host: str) -> None:
    load_settings(host=host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.org", ""])
def test_other_addresses_need_keys_or_plain_words(host: str) -> None:
    with pytest.raises(SettingsError):
        load_settings(host=host)
    load_settings(host=host, allow_anonymous=True)


def test_the_secret_is_kept_and_is_the_owners_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    assert read_secret(settings) == read_secret(settings)
    assert (tmp_path / "data" / "secret").stat().st_mode & 0o777 == 0o600
    assert read_secret(Settings(secret="x" * 32)) == "x" * 32
    (tmp_path / "data" / "secret").write_text("")  # with which anybody could make caption ids
    with pytest.raises(SettingsError, match="CAPTIONIST_SECRET"):
        read_secret(settings)
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="CAPTIONIST_DATA_DIR"):
        read_secret(Settings(data_dir=tmp_path / "file"))


def test_every_setting_is_described_and_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(meaning for _, _, meaning in describe())
    monkeypatch.setenv("CAPTIONIST_SECRET", "very-secret-very-secret-very-secret")
    assert "very-secret" not in repr(load_settings())
