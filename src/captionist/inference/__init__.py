"""Caption generation on plain arrays: ONNX Runtime sessions, search, constraints, tokenizer. No torch in here."""
