"""L-BFGS, for LambdaML."""
