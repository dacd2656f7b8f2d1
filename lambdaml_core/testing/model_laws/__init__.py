"""The laws of ``lambdaml_core.testing.model``, by what they are about."""
