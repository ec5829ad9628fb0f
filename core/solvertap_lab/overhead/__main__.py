"""`python -m solvertap_lab.overhead [FOLDER]`."""

import sys

from .table import main

main(*sys.argv[1:])
