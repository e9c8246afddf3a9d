"""What tests, benchmarks and deploy share: real services, load, pictures; it imports none of the three."""
