"""Write dashboards/*.json: run `python -m deploy.grafana` after changing their sources."""

from deploy.grafana.written import BOARDS, FOLDER, text

for name in BOARDS:
    (FOLDER / f"{name}.json").write_text(text(name), encoding="utf-8")
