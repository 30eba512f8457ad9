"""What code of stages may not ask its surroundings for: each question is found however it is
written, and no other line is.
"""

import shutil

import pytest
from repository import REPOSITORY

from pipeline.check import declaration_findings
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.surroundings import ALLOWED, questions

ASKING = {
    "import time\ntime.time()": "time.time",
    "import time as t\nstart = t.perf_counter": "time.perf_counter",
    "from time import time_ns as now\nnow()": "time.time_ns",
    "import datetime\ndatetime.datetime.now()": "datetime.datetime.now",
    "from datetime import datetime\ndatetime.today()": "datetime.datetime.today",
    "from datetime import datetime, UTC\nx = datetime.now(UTC)": "datetime.datetime.now",
    "from datetime import date\ndate.today()": "datetime.date.today",
    "import os\nos.environ['DEBUG']": "os.environ",
    "import os\nif os.getenv('DEBUG'): pass": "os.getenv",
    "from os import environ": "os.environ",
    "def f():\n    import os as system\n    return system.environ.get('A')": "os.environ",
    "import socket\nsocket.gethostname()": "socket.gethostname",
    "from socket import getfqdn": "socket.getfqdn",
    "import platform\nplatform.node()": "platform.node",
    "import os\nos.uname().nodename": "os.uname",
    "import os.path\nos.path.getsize('README.md')": "os.path.getsize",
    "from os.path import getmtime": "os.path.getmtime",
    "import os\nos.stat('README.md').st_size": "os.stat",
    "from pathlib import Path\nPath('README.md').stat().st_size": "stat",
    "def f(path):\n    return path.lstat()": "lstat",
    "import getpass\ngetpass.getuser()": "getpass.getuser",
    "import uuid\nuuid.uuid4()": "uuid.uuid4",
    "from secrets import token_hex": "secrets.token_hex",
    "import os\nos.urandom(8)": "os.urandom",
    "import os\nos.cpu_count()": "os.cpu_count",
}


@pytest.mark.parametrize("text", ASKING)
def test_a_question_is_found_and_named(text):
    lines = questions("model/new.py", text.encode())
    assert lines
    assert {line.split(": ")[1].removeprefix("asks for ").split(",")[0] for line in lines} == {
        ASKING[text]
    }


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.sleep(1)",
        "time = 3\nprint(time.time)",
        "from datetime import timedelta",
        "import os\nos.path.join('a')",
        "def stat(): pass\nstat()",
        "import stat\nstat.S_ISDIR(1)",
        "environ = {}",
        "from model.statistics.rates import mean",
    ],
)
def test_what_only_looks_like_one_is_none(text):
    assert questions("model/new.py", text.encode()) == []


def test_every_exception_is_needed(monkeypatch):
    for path, names in list(ALLOWED.items()):
        for name in names:
            monkeypatch.setitem(ALLOWED, path, names - {name})
            assert any(
                f"asks for {name}," in line
                for line in questions(path, (REPOSITORY / path).read_bytes())
            ), (path, name)
        monkeypatch.setitem(ALLOWED, path, names)


def test_make_check_says_where(tmp_path):
    for name in ("dvc.yaml", "params.yaml", "libraries.yaml", "requirements.txt"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    for name in ("common", "model", "stages"):
        shutil.copytree(
            REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    before = declaration_findings(WorkingTree(tmp_path))
    module = tmp_path / "model/pretraining/losses.py"
    module.write_text(module.read_text() + "\nimport time\nSTARTED = time.time()\n")
    [line] = [line for line in declaration_findings(WorkingTree(tmp_path)) if line not in before]
    assert line.startswith(
        f"model/pretraining/losses.py:{len(module.read_text().splitlines())}: asks for time.time,"
        " which DVC does not track as an input"
    )
