"""Runnable recipes: one dataclass `Config` and one short `main` each. `python -m mmssl recipes` lists them."""
