"""The laws of ``lambdaml_core.testing.optimizer``, and the ranks that they are tried on."""
