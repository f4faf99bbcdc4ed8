"""Holds versions of models in memory and computes what gateways ask of them."""
