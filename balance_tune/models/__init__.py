"""Encoders, fusions, and the multimodal model they make; independent of training."""
