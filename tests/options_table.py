"""Writes docs/options.md, every option of a search: python -m tests.options_table."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from typer.main import get_command

from captionist import Sampling, SearchOptions
from captionist.cli import app
from captionist.server.schemas import CaptionOptions

DOCUMENT = Path(__file__).parents[1] / "docs" / "options.md"
_HEAD = """# The options of a search

Written by `python -m tests.options_table` from `SearchOptions`, which defines all of them.

In Python each option is an argument of `Captioner.caption` and `caption_many`, and a field of `SearchOptions`. In a
recipe and in a bundle's config.json the options are the section `search`. A model uses the values in its own section
unless you ask for others, and the defaults below where its section says nothing. The command line has the options with
a flag, the service those with a range in its column. Asking for more captions than beams raises the number of beams,
too, unless you also give that. Any other value or option is an error that says what is allowed.
"""
_SAMPLING = """## Sampling

`sample=Sampling(seed=1)` in Python, or a section `sample` in `search`:
"""


def render_options() -> str:
    """The whole document."""
    columns = "| option | values | default | flag | service | meaning |\n|---|---|---|---|---|---|"
    rows = "\n".join(_rows(SearchOptions, everywhere=True))
    sampling = "| option | values | default | meaning |\n|---|---|---|---|\n" + "\n".join(_rows(Sampling))
    return f"{_HEAD}\n{columns}\n{rows}\n\n{_SAMPLING}\n{sampling}\n"


def _rows(model: type[BaseModel], everywhere: bool = False) -> Iterator[str]:
    properties = model.model_json_schema()["properties"]
    served = CaptionOptions.model_json_schema()["properties"]
    command = get_command(app).commands["caption"]  # type: ignore[attr-defined]
    flags = {flag for parameter in command.params for flag in parameter.opts}
    for name, schema in properties.items():
        default = "" if schema["default"] is None else f"`{schema['default']:g}`"
        cells = [f"`{name}`", _values(schema), default]
        if everywhere:
            flag = f"--{name.replace('_', '-')}"
            cells += [f"`{flag}`" if flag in flags else "", _values(served[name]) if name in served else ""]
        yield f"| {' | '.join(cells)} | {schema['description']} |"


def _values(schema: dict[str, object]) -> str:
    """The values that a JSON schema allows, such as `1 to 1000`."""
    choices = schema.get("anyOf")
    own = choices[0] if isinstance(choices, list) else schema
    if "$ref" in own:
        return "[`Sampling`](#sampling)"
    low = f"{own['minimum']:g}" if "minimum" in own else f"above {own['exclusiveMinimum']:g}"
    return f"{low} to {own['maximum']:g}" if "maximum" in own else f"{low} or more"


if __name__ == "__main__":
    DOCUMENT.write_text(render_options(), encoding="utf-8")
