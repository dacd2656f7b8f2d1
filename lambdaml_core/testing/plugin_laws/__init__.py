"""What :mod:`lambdaml_core.testing.plugin` looks at a distribution with."""
