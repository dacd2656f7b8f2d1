"""Runs: the job, its plan, the driver that launches and watches workers, the worker, and the records they leave."""
