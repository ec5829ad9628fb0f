"""`python -m solvertap_lab.paper FOLDER` draws the pictures of `reproduce` anew, from the runs.csv in the folder."""

import sys
from functools import partial
from pathlib import Path

from ..results.looks import write_pictures
from .evidence import results_of_csv
from .picture import plot_paper

folder = Path(sys.argv[1])
results = results_of_csv((folder / "runs.csv").read_text())
for path in write_pictures(folder / "paper.png", partial(plot_paper, results)):
    print(f"wrote {path}")
