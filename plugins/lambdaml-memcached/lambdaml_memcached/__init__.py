"""Messages in Memcached, for LambdaML."""
