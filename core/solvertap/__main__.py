"""`python -m solvertap` is `solvertap`."""

from .cli import main

main()
