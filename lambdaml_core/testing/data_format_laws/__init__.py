"""The laws of ``lambdaml_core.testing.data_format``: of files of any kind, of rows of features, and of tables."""
