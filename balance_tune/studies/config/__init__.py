"""Study files: their schema, their reader, and one-line messages for mistakes."""
