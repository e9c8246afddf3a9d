"""Fail if an evaluation is below a bar: check_scores.py EVALUATION.json METRIC=BAR..."""

import json
import sys
from pathlib import Path

scores = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["scores"]
failures = [
    f"{metric} is {scores[metric]['value']:.1f}, below the bar of {bar}"
    for metric, bar in (argument.split("=") for argument in sys.argv[2:])
    if scores[metric]["value"] < float(bar)
]
sys.exit("; ".join(failures) or None)
