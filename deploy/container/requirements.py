"""Prints what a project requires with its extras: `requirements.py pyproject.toml EXTRA...`. That way, its requirements
need not be installed again when only the project's own code has changed.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
extras = [line for extra in sys.argv[2:] for line in project["optional-dependencies"][extra]]
sys.stdout.write("\n".join([*project["dependencies"], *extras, ""]))
