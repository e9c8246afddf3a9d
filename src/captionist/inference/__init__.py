"""Caption generation on plain arrays: ONNX Runtime sessions, search, constraints, tokenizer. No torch in here."""

import os

# Wheels of ONNX Runtime since 1.29 report how they are used to their maker, over the network, and keep an identifier of
# the machine in the home folder. Captionist is offline: so not, unless somebody has set this variable otherwise. It is
# read when the library is first used.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
