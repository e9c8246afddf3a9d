"""Everything that is useful only on AWS; the rest of the service uses only what is imported here."""

from captionist.server.aws.emf import EmbeddedMetrics
from captionist.server.aws.scale_in import ScaleInProtection, agent_uri
from captionist.server.aws.trace_header import TRACE_HEADER, trace_root
from captionist.server.batching import Batcher
from captionist.server.logs import line_writer
from captionist.server.observers import Observer
from captionist.server.settings import Settings
from captionist.server.telemetry import Telemetry

__all__ = ["TRACE_HEADER", "observers", "trace_root"]


def observers(settings: Settings, telemetry: Telemetry, batcher: Batcher) -> list[Observer]:
    """The observers that the settings ask for. Raises SettingsError if one cannot work here."""
    found: list[Observer] = []
    if settings.scale_in_protection:
        found.append(ScaleInProtection(batcher, agent_uri()))
    if settings.emf_interval is not None:
        found.append(
            EmbeddedMetrics(
                telemetry.registry,
                batcher,
                line_writer(),
                interval=settings.emf_interval,
                namespace=settings.emf_namespace,
                service=settings.service_name,
            )
        )
    return found
