"""Losses: tensors in, one scalar out; what they remember is a buffer."""
