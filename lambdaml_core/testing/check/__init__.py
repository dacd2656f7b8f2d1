"""What ``lambdaml plugins check`` runs, in a process of its own: ``python -m lambdaml_core.testing.check``."""
