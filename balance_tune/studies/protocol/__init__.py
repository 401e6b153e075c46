"""What is compared with what: arms, search spaces, seeds, selection, provenance."""
