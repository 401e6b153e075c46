"""Studies: what is searched, run, watched and reported; the only package (beside the command line) that knows Ray."""
