"""Messages and values in Redis or Valkey, for LambdaML."""
