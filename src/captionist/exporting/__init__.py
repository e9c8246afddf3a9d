"""A run becomes a bundle: graphs, precision, bank and ranker, scores, card."""
