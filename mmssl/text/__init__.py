"""Text: tokenizers and a transformer."""
