"""Evaluation of frozen features: protocols, intervals, a verdict in words, and the report. It knows only arrays."""
