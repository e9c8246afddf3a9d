"""Scores by the published protocol, with their uncertainty, and the page on which a person reads them."""
