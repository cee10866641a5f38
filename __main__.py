"""`python -m tracekeep`."""
