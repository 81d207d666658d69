"""Series of sensors: readers, windows, encoders and the methods that are their own."""
