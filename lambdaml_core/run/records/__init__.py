"""What a run leaves in its store: who has begun and ended, checkpoints, and what is read of them."""
