"""Captions for large collections of pictures, on one machine or on a Ray cluster, into a table of Parquet files."""
