"""The laws of ``lambdaml_core.testing.provider``, by what they are about."""
