"""Data: formats that are read, the partitioner, and the shards that workers load."""
