"""One JSON object per line on standard output (or readable lines on a terminal); never picture bytes, never keys."""

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import structlog


class _Output:
    """Standard output, for as long as somebody reads it: without a reader, the service goes on all the same."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stdout.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stdout.flush()


_OUTPUT: Any = _Output()  # it does what a log needs from a file


def configure_logging(level: str, format: Literal["json", "text"] | None) -> None:
    """Send this process's log lines, including its libraries', to standard output."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    as_text = format == "text" or (format is None and sys.stdout.isatty())
    # Plain tracebacks: others show local variables, and with them keys and pictures.
    renderers: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if as_text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    # Our own lines bypass Python's logging: there is one for every request, even when refused under overload, and
    # logging would be a good part of its cost.
    structlog.configure(
        processors=[*shared, *renderers],
        logger_factory=structlog.WriteLoggerFactory(_OUTPUT),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(_OUTPUT)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # uvicorn would log each request again, and alembic every look at the schema.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("uvicorn.error").setLevel("WARNING")
    logging.getLogger("alembic").setLevel("WARNING")
    # Any client can cause OpenTelemetry's warnings with a header, and a missing collector one every second.
    logging.getLogger("opentelemetry").setLevel("ERROR")


def line_writer() -> Callable[[str], None]:
    """Writes lines unchanged into the log, whatever its level and format, and never into the middle of a line."""
    return structlog.WriteLogger(_OUTPUT).msg
