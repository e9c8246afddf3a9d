"""The torch model that is trained and exported."""
