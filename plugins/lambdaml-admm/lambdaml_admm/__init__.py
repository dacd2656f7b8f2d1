"""Consensus ADMM: workers solve problems of their own, and agree in few rounds."""
