"""The stages: one module each, run as `python -m stages.NAME`, always under the seal.

The seal (pipeline/seal/start.py, pipeline/seal/sealed_stage.py) stops a stage that reads or writes
what dvc.yaml does not declare.
"""

import sys

# With `python -m`, runpy leaves "-m" here while it imports the package of the module that it runs.
if sys.argv[0] == "-m":
    from pipeline.seal.start import start

    start()
