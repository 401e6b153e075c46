"""What lies on disk, in a database or in an object store, and who may write it."""
