"""A storage over SQLite and the optimizer Adagrad, for LambdaML."""
