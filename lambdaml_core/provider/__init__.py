"""Who runs the workers: the contract (``base.py``), and the built-in providers ``local`` and ``inline``."""
