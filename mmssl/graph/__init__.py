"""Graphs, many small ones or the nodes of a large one: reading, batches, views, encoders, and the papers' methods."""
