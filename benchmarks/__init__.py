"""Measurements of the service against its targets; each is a command: python -m benchmarks.service_throughput."""
