"""The dashboards as the JSON that Grafana loads."""

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import fleet, quality, service

FOLDER = Path(__file__).with_name("dashboards")
BOARDS = {"service": service.build, "quality": quality.build, "fleet": fleet.build}


def text(name: str) -> str:
    """What dashboards/NAME.json should contain."""
    made = BOARDS[name]().build()
    for number, panel in enumerate(made.panels or [], 1):
        panel.id_val = number  # links to a panel use its number
    return json.dumps(made, cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"
