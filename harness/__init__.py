"""What tests, benchmarks and deploy share: real services, load, pictures. It imports none of the three."""
