"""`python -m solvertap_lab.overhead [FOLDER [BACKEND [KIND]]]`; a folder "" writes nothing."""

import sys

from .table import main

main(*sys.argv[1:])
