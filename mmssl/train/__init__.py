"""The training loop and what it leaves behind. Knows a `Method`, and nothing of modalities or evaluation."""
