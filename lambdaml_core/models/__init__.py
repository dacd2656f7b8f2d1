"""Models: the contract in ``base.py``, implementations beside it."""
