"""Writes docs/cli.md, the help of every command: python -m tests.cli_help."""

import os
from pathlib import Path

from typer.main import get_command
from typer.testing import CliRunner

DOCUMENT = Path(__file__).parents[1] / "docs" / "cli.md"


def render_help() -> str:
    """The whole document."""
    os.environ |= {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    from captionist.cli import app

    paths: list[list[str]] = [[]]
    for path in paths:  # grows as groups are met
        command = get_command(app)
        for name in path:
            command = command.commands[name]  # type: ignore[attr-defined]
        paths += [[*path, name] for name in getattr(command, "commands", {})]
    parts = ["# The command line", "Written by `python -m tests.cli_help` from the commands' own help."]
    for path in paths:
        result = CliRunner().invoke(app, [*path, "--help"], prog_name="captionist")
        text = "\n".join(line.rstrip() for line in result.stdout.strip().splitlines())
        parts.append(f"## {' '.join(['captionist', *path])}\n\n```\n{text}\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(render_help(), encoding="utf-8")
