"""Programs a person runs; each is `python -m experiments.NAME --flags`."""
