"""Find where a stage's code reads the clock, the host, the environment or a file's size.

A result that depends on one of these differs tomorrow or elsewhere, while DVC sees no change.
Python raises no audit event for such a call, so the seal cannot stop it. `make check` finds it in
the source, however the name was imported:

    import time as t; t.time()           time.time
    from os import environ as e; e["A"]  os.environ

It does not find a name that is built at run time: `getattr(time, "ti" + "me")`.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator

from pipeline.declared.settings import FILE, SETTINGS

# By module: functions whose result DVC does not track as an input. "*" means all of a module.
_ASKING = {
    "datetime": {"now", "today", "utcnow"},
    "getpass": {"*"},
    "os": {
        "cpu_count", "environ", "environb", "getenv", "getenvb", "getloadavg", "getlogin", "getpid",
        "getppid", "getuid", "lstat", "sched_getaffinity", "stat", "times", "uname", "urandom",
    },
    "os.path": {"getatime", "getctime", "getmtime", "getsize"},
    "platform": {"*"},
    "posix": {"*"},
    "pwd": {"*"},
    "secrets": {"*"},
    "socket": {"getfqdn", "gethostbyname", "gethostname"},
    "time": {
        "asctime", "clock_gettime", "clock_gettime_ns", "ctime", "gmtime", "localtime", "monotonic",
        "monotonic_ns",
        "perf_counter", "perf_counter_ns", "process_time", "process_time_ns", "strftime",
        "thread_time", "time", "time_ns",
    },
    "uuid": {"*"},
}  # fmt: skip
_METHODS = {"lstat", "stat"}  # of a path
# Exceptions by module. Either the value reaches no output, or the stage stops if it is not as
# expected.
ALLOWED = {path: set(names) for path, names in SETTINGS.surroundings.items()}
_WORTH_PARSING = re.compile(rf"\b(?:{'|'.join([*_ASKING, *_METHODS])})\b".replace(".", r"\."))


def questions(path: str, content: bytes) -> list[str]:
    """Return a line for each place in the module `path` that reads what it may not."""
    if not _WORTH_PARSING.search(content.decode()):
        return []
    tree = ast.parse(content, path)
    allowed = ALLOWED.get(path, set())
    found = sorted({(line, name) for line, name in _asked(tree) if name not in allowed})
    advice = (
        "which DVC does not track as an input; make it a parameter, or allow it in "
        f"tool.pipeline.surroundings of {FILE} if it changes no output"
    )
    return [f"{path}:{line}: asks for {name}, {advice}" for line, name in found]


def _asked(tree: ast.Module) -> Iterator[tuple[int, str]]:
    names = _imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                if _is_asking(f"{node.module}.{alias.name}"):
                    yield node.lineno, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Attribute):
            stands_for = _stands_for(node, names)
            asking = [name for name in stands_for if _is_asking(name)]
            yield from ((node.lineno, name) for name in asking)
            if not stands_for and node.attr in _METHODS:
                yield node.lineno, node.attr


def _imported(tree: ast.Module) -> dict[str, set[str]]:
    """Return what each name stands for: `t` after `import time as t` is time."""
    found = defaultdict(set)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                found[alias.asname or first].add(alias.name if alias.asname else first)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                found[alias.asname or alias.name].add(f"{node.module}.{alias.name}")
    return found


def _stands_for(node: ast.AST, names: dict[str, set[str]]) -> set[str]:
    """Return the dotted names that `a.b.c` may stand for; none for an attribute of a value."""
    if isinstance(node, ast.Name):
        return names.get(node.id, set())
    if isinstance(node, ast.Attribute):
        return {f"{before}.{node.attr}" for before in _stands_for(node.value, names)}
    return set()


def _is_asking(name: str) -> bool:
    """Return whether `name` is in _ASKING: datetime.datetime.now is datetime's `now`."""
    module, _, last = name.rpartition(".")
    if not module:
        return False
    for asking, members in _ASKING.items():
        if (module == asking or module.startswith(f"{asking}.")) and (
            last in members or "*" in members
        ):
            return True
    return False
