"""Methods that balance multimodal training: one file each."""
