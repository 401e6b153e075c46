"""The version of this package, and the folder it lies in."""

from pathlib import Path

VERSION = "0.2.0"
FOLDER = Path(__file__).parent
