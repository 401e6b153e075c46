"""Encoders, fusions, and the multimodal model they make; knows nothing of training."""
