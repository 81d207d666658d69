"""Images: data, views, encoders."""
