"""One trial, and how Ray Tune runs many of them."""
