"""A local S3 server with an empty bucket, and made-up credentials for it."""

import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import pytest

INSTALL = "no dvc-s3 or no moto: make s3-test"
BUCKET = "results"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "1",
    "NO_PROXY": "127.0.0.1",
}


def require_s3() -> None:
    """Skip the test if the server is not installed; fail instead if REQUIRE_S3 is set."""
    if not (find_spec("dvc_s3") and find_spec("moto") and find_spec("flask_cors")):
        if os.environ.get("REQUIRE_S3") == "1":
            pytest.fail(INSTALL)
        pytest.skip(INSTALL)


@contextmanager
def s3_server() -> Iterator[str]:
    """Yield the address of a server on a free port of the loopback; stop it at the end."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        # Without any proxy of the environment.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(urllib.request.Request(f"{address}/{BUCKET}", method="PUT"), timeout=30).close()
        yield address
    finally:
        server.stop()
