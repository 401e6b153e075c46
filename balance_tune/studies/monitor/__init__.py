"""What a study will cost, and how far it is."""
