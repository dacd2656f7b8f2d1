"""The laws of a storage, by what they are about; ``lambdaml_core.testing.storage`` has them all in one suite."""
