"""Caption generation on plain arrays: ONNX Runtime sessions, search, constraints, tokenizer. No torch in here."""

import os

# ONNX Runtime's wheels since 1.29 report usage to their maker over the network, and keep an identifier of the machine
# in the home folder. Captionist is offline, so this turns that off, unless somebody has set the variable. The library
# reads it when it is first used.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
