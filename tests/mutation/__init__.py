"""Seeded errors: small changes to the code, made by a seed, that some test must notice."""
