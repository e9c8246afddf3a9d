"""Captions over HTTP: `captionist serve`."""
