"""One module a stage, run as `python -m stages.NAME`, and always sealed: see pipeline/seal/start.py
and pipeline/seal/sealed_stage.py.
"""

import sys

if (
    sys.argv[0] == "-m"
):  # what runpy leaves there while it imports the package of the module it will run
    from pipeline.seal.start import start

    start()
