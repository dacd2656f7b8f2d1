"""LambdaML's runs in TensorBoard."""
