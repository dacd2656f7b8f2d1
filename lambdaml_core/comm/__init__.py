"""Communication: keys, wire format, patterns without I/O, and the engine that runs them."""
