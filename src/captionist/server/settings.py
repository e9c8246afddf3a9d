"""What an operator can set: by environment variable, or in a TOML file."""

import ipaddress
import os
import re
import secrets
import tempfile
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from limits import parse
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from captionist.errors import SettingsError
from captionist.faults import Fault, find_faults
from captionist.images import ImageLimits

PREFIX = "CAPTIONIST_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
_DEFAULT_CONFIG = "captionist.toml"
_SHORTEST_SECRET = 32
_DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg", "postgres": "psycopg"}
# What Kubernetes sets in every container of a namespace with a Service called captionist or captionist-something.
_KUBERNETES = re.compile(
    rf"{PREFIX}(\w+_)?(SERVICE_HOST=.*|SERVICE_PORT(_\w+)?=.*|PORT(_\d+_(TCP|UDP|SCTP))?=\w+://.*"
    r"|PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)=.*)"
)


def _rate(value: str) -> str:
    try:
        parse(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is not a rate such as 60/minute") from error
    return value


def _origin(value: str) -> str:
    if not re.fullmatch(r"https?://[^/*\s]+|\*", value):
        raise ValueError(f"{value!r} is not an origin such as https://example.org")
    return value


def _database(value: str) -> str:
    """The URL with the driver that is installed."""
    try:
        url = make_url(value.strip())
    except ArgumentError as error:
        raise ValueError("this is not a database URL such as postgresql://user:password@host/name") from error
    name, _, driver = url.drivername.lower().partition("+")
    if name not in _DRIVERS:
        raise ValueError(f"{name} databases are not supported: use sqlite:///FILE or postgresql://")
    if driver not in ("", _DRIVERS[name]):
        raise ValueError(f"the driver {driver} is not supported: write {name}:// instead of {name}+{driver}://")
    if name == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise ValueError("an SQLite database needs a file, such as sqlite:////data/captionist.db")
        return url.set(drivername="sqlite").render_as_string(hide_password=False)
    return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def _namespace(value: str) -> str:
    if not re.fullmatch(r"(?!AWS/)[A-Za-z0-9._/#-]([A-Za-z0-9._/#: -]{0,254}[A-Za-z0-9._/#:-])?", value):
        raise ValueError(f"{value!r} is not a namespace that CloudWatch accepts, such as Captionist")
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Rate = Annotated[str, AfterValidator(_rate)]


class ApiKey(BaseModel):
    """A client's key. Only its SHA-256 is configured, so the configuration does not reveal the key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,40}$", description="appears in logs")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the key")
    rate: Rate | None = Field(None, description="requests allowed, such as 60/minute")
    admin: bool = Field(False, description="may export feedback, and read /metrics from another machine")


class _Environment(EnvSettingsSource):
    """Variables as people write them: an empty one is not set (Compose's `${X:-}`), and Windows adds to line ends."""

    def __init__(self, settings: type[BaseSettings]) -> None:
        super().__init__(settings)
        self.env_vars = {
            name: value.strip()
            for name, value in self.env_vars.items()
            if value and value.strip() and not _is_of_kubernetes(name.upper(), value)
        }

    def prepare_field_value(self, field_name: str, field: FieldInfo, value: Any, value_is_complex: bool) -> Any:
        try:
            return super().prepare_field_value(field_name, field, value, value_is_complex)
        except ValueError as error:
            raise SettingsError(f"{PREFIX}{field_name.upper()} is not JSON: write a list as JSON") from error


class _File(TomlConfigSettingsSource):
    """captionist.toml; some editors put a byte order mark at its start, which TOML does not allow."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        return tomllib.loads(file_path.read_text(encoding="utf-8-sig"))


class Settings(BaseSettings):
    """The service's settings. Each is an environment variable with the prefix CAPTIONIST_, or a key of the file that
    CAPTIONIST_CONFIG names (captionist.toml in the working directory by default); the environment wins."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, allow_inf_nan=False)

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    model: str | None = Field(None, description="a bundle's directory, or the name of a model inside the package")
    engines: int | None = Field(
        None, ge=1, description="batches that run side by side, each on one core; by default as many as there are cores"
    )
    providers: tuple[str, ...] = Field(
        (), description="JSON list of what ONNX Runtime computes on instead of the CPU: cuda, openvino and so on"
    )

    api_keys: tuple[ApiKey, ...] = Field((), description="JSON list of {name, sha256, rate, admin}")
    allow_anonymous: bool = Field(False, description="listen on addresses other than loopback without API keys")
    anonymous_rate: Rate | None = Field(None, description="requests allowed from each address if there are no keys")
    cors_origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = Field(
        (), description="JSON list of origins whose pages may call the API"
    )
    compatible_apis: bool = Field(
        True, description="answer clients of OpenAI and Ollama, too: /v1/chat/completions, /api/chat and others"
    )
    secret: SecretStr | None = Field(
        None,
        min_length=_SHORTEST_SECRET,
        description="signs caption ids; use the same on every replica. By default it is kept in data_dir",
    )

    max_picture_bytes: int = Field(20_000_000, ge=1_000, description="largest picture")
    max_picture_pixels: int = Field(50_000_000, ge=1_000, description="most pixels of a picture, before decoding")
    max_pictures: int = Field(16, ge=1, le=256, description="most pictures in one request")
    max_inflight_bytes: int = Field(
        256_000_000, ge=1_000_000, description="bodies held in memory at once; more are refused with 503"
    )
    fetch_urls: bool = Field(False, description="fetch pictures named by URL (public addresses only)")
    fetch_timeout: float = Field(5.0, gt=0, description="seconds for fetching one picture")

    max_batch: int = Field(8, ge=1, le=64, description="most pictures in one run of the engine")
    max_delay: float = Field(0.005, ge=0, le=1, description="seconds to wait for pictures that are being decoded")
    max_queue: int = Field(64, ge=1, description="pictures accepted at once; more are refused with 503")
    deadline: float = Field(10.0, gt=0, description="seconds until an accepted request is given up with 504")
    body_timeout: float = Field(20.0, gt=0, description="seconds for a client to send its body")
    grace_period: float = Field(25.0, ge=0, description="seconds after SIGTERM to finish what was accepted")

    data_dir: Path = Field(Path("captionist-data"), description="where the SQLite file and the secret are kept")
    database_url: Annotated[str, AfterValidator(_database)] | None = Field(
        None, description="postgresql://user:password@host/name; by default an SQLite file in data_dir"
    )
    keep_pictures: bool = Field(False, description="keep pictures that users consented to give, for training")

    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        "info", description="lowest level of lines that are logged"
    )
    log_format: Annotated[Literal["json", "text"] | None, BeforeValidator(_lower)] = Field(
        None, description="by default text on a terminal, else JSON"
    )

    service_name: str = Field(
        "captionist",
        pattern=r"^[!-9;-~]([ -~]{0,253}[!-~])?$",
        description="name of this service in metrics and traces, if several report to the same place",
    )
    emf_interval: float | None = Field(
        None,
        ge=0.1,
        le=3600,
        description="seconds between metrics for CloudWatch in the log; by default there are none",
    )
    emf_namespace: Annotated[str, AfterValidator(_namespace)] = Field(
        "Captionist", description="CloudWatch's namespace for these metrics"
    )
    traces: bool = Field(
        False, description="send traces by OpenTelemetry (extra otel); OTEL_EXPORTER_OTLP_ENDPOINT says where to"
    )
    scale_in_protection: bool = Field(
        False, description="on ECS: protect this task from being removed while it has pictures to describe"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Environment(settings_cls), _File(settings_cls, toml_file=_config_file())

    @model_validator(mode="after")
    def _closed_unless_told_so(self) -> Self:
        if not self.api_keys and not self.allow_anonymous and not is_loopback(self.host):
            raise ValueError(
                f"{self.host} is open to other machines, but there are no API keys: set {PREFIX}API_KEYS, or "
                f"{PREFIX}ALLOW_ANONYMOUS=true if anyone may use this service"
            )
        names = [key.name for key in self.api_keys]
        if len(set(names)) < len(names):
            raise ValueError("two API keys have the same name")
        return self

    @property
    def sqlalchemy_url(self) -> str:
        """The database's URL."""
        if self.database_url is None:
            return f"sqlite:///{self.data_dir / 'captionist.db'}"
        return self.database_url

    @property
    def image_limits(self) -> ImageLimits:
        """The limits on a picture."""
        return ImageLimits(self.max_picture_bytes, self.max_picture_pixels)

    @property
    def max_body_bytes(self) -> int:
        """The largest body: pictures of the largest size in base64, and room for the fields around them."""
        return min(self.max_pictures * (self.max_picture_bytes * 4 // 3 + 4096) + 65536, self.max_inflight_bytes)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; overrides come from the command line. Raises SettingsError naming each wrong variable."""
    named = os.environ.get(CONFIG_VARIABLE, "").strip()
    if named and not Path(named).is_file():
        raise SettingsError(f"{CONFIG_VARIABLE} names {named}, but there is no such file")
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {CONFIG_VARIABLE}
    strange = sorted(
        name
        for name, value in os.environ.items()
        if name.startswith(PREFIX) and name not in known and not _is_of_kubernetes(name, value)
    )
    if strange:
        raise SettingsError(f"{', '.join(strange)}: no such setting; `captionist serve --help` lists them all")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError("; ".join(_fault(fault) for fault in find_faults(error))) from error
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{_config_file()} cannot be read: {error}") from error


def read_secret(settings: Settings) -> str:
    """The secret that signs caption ids; a generated one is kept, so that ids stay valid after a restart.

    Raises SettingsError if it can be neither read nor written.
    """
    if settings.secret is not None:
        return settings.secret.get_secret_value()
    path = settings.data_dir / "secret"
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            # If several start together, the first to link its file has made the secret for all; only the owner can read
            # the file.
            with tempfile.NamedTemporaryFile("w", dir=settings.data_dir) as file, suppress(FileExistsError):
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(file.fileno())
                os.link(file.name, path)
        secret = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be used ({error}): set {PREFIX}DATA_DIR, or {PREFIX}SECRET") from error
    if len(secret) < _SHORTEST_SECRET:  # with an empty one, anybody could make caption ids
        raise SettingsError(f"{path} holds fewer than {_SHORTEST_SECRET} characters: delete it, or set {PREFIX}SECRET")
    return secret


def describe() -> list[tuple[str, str, str]]:
    """Every setting: its variable, its default and its meaning."""
    return [
        (PREFIX + name.upper(), _default(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def _default(value: object) -> str:
    if value is None or value == ():
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _config_file() -> str:
    return os.environ.get(CONFIG_VARIABLE, "").strip() or _DEFAULT_CONFIG


def _is_of_kubernetes(name: str, value: str) -> bool:
    return bool(_KUBERNETES.fullmatch(f"{name}={value}"))


def _fault(fault: Fault) -> str:
    setting, *parts = fault.field.split(".")
    return str(fault._replace(field=setting and f"{PREFIX}{setting.upper()}{''.join(f'[{part}]' for part in parts)}"))
