"""Write dashboards/*.json: `python -m deploy.grafana`, after changing what they are written from."""

from deploy.grafana.written import BOARDS, FOLDER, text

for name in BOARDS:
    (FOLDER / f"{name}.json").write_text(text(name), encoding="utf-8")
