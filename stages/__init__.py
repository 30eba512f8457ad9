"""One module a stage, run as `python -m stages.NAME`, and always sealed: see graph/start.py and graph/seal.py."""

import sys

if (
    sys.argv[0] == "-m"
):  # what runpy leaves there while it imports the package of the module it will run
    from graph.start import start

    start()
