"""`python -m solvertap_lab.paper FOLDER` writes table and pictures of `reproduce` anew, from the folder's runs.csv."""

import sys
from pathlib import Path

from .folder import FILES, read_folder, write_folder

folder = Path(sys.argv[1])
write_folder(read_folder(folder).values(), folder)
for name in FILES:
    print(f"wrote {folder / name}")
