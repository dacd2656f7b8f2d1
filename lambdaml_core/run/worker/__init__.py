"""A worker's half of a run: training, checkpoints, signs of life, successors."""
