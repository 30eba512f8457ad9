"""One module a stage, run as `python -m stages.NAME`, and always sealed: see graph/seal.py."""

import sys

if sys.argv[0] == "-m":  # what runpy leaves there while it imports the package of the module it will run
    import gc

    from graph.seal import seal

    seal()
    gc.disable()  # for the imports, a sixth of their time; run_stage turns it on again
