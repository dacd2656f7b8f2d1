"""A driver's half of a run: planning, launching, replacing workers, resuming, cancelling, ending."""
