"""Make the certificate with which a Dask scheduler, its workers and `make repro` trust each other.

    python -m pipeline.driver.certificate            in .venv/etc/dask, where Dask looks
    python -m pipeline.driver.certificate FOLDER     elsewhere; then set DASK_CONFIG=FOLDER

Reads nothing. Writes FOLDER/pipeline-tls.yaml: Dask's configuration with a new certificate and its
private key, valid for a year. Every machine that has its own .venv needs a copy. Anybody who can
read the file can run commands on every worker, so only its owner may read it. With this file Dask
listens and connects by TLS only, and its web pages are off.
"""

import os
import sys
from pathlib import Path
from typing import Any

import yaml
from distributed import Security

from pipeline.terminal.command_lines import command_line

NAME = "pipeline-tls.yaml"


def make(folder: Path) -> Path:
    """Write the configuration file into `folder`; raise FileExistsError if it has one."""
    made = Security.temporary()
    roles = {
        role: {"cert": getattr(made, f"tls_{role}_cert"), "key": getattr(made, f"tls_{role}_key")}
        for role in ("client", "scheduler", "worker")
    }
    comm = {
        "default-scheme": "tls",
        "require-encryption": True,
        "tls": {"ca-file": made.tls_ca_file, **roles},
    }
    no_pages: dict[str, Any] = {"http": {"routes": []}}
    settings = {"distributed": {"comm": comm, "scheduler": no_pages, "worker": no_pages}}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        yaml.safe_dump(settings, file)
    return path


def main() -> None:
    parser = command_line("pipeline.driver.certificate", __doc__, changes=True)
    parser.add_argument("folder", metavar="FOLDER", nargs="?", type=Path)
    folder = parser.parse_args().folder or Path(sys.prefix) / "etc" / "dask"
    try:
        print(make(folder))
    except FileExistsError:
        sys.exit(
            f"error: certificate: {folder / NAME} exists; move it elsewhere for a new one, which "
            "every machine then needs"
        )
    except OSError as error:
        sys.exit(f"error: certificate: {error}")


if __name__ == "__main__":
    main()
