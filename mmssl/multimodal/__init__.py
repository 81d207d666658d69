"""Images with captions: reading pairs, embedding either side, search."""
