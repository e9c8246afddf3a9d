"""The commands of `captionist`: each parses its options, delegates and prints."""
