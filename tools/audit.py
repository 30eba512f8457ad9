"""Find known vulnerabilities in all packages of the locks, by pip-audit (`make audit`).

    python -m tools.audit    audits every requirements*.txt of this folder

pip-audit exits 0 even if the index, or a mirror of it, answers that it knows no package. So this
command compares the report with the lock, and fails if a package was not audited. Needs only the
standard library and pip_audit. Reads the locks, and asks the index. Writes nothing.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pipeline.terminal.streams import end_unread

_PIP_AUDIT = [
    sys.executable,
    "-m",
    "pip_audit",
    "--disable-pip",
    "--no-deps",
    "--format=json",
    "--progress-spinner=off",
]
# A pin, perhaps with a marker, hashes and a comment.
_PIN = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;#]+)(?: ;[^#]*?)?(?: +--hash=\S+)*(?: +#.*)?"
)


def locks(root: Path) -> list[Path]:
    return sorted(root.glob("requirements*.txt"))


def pins(lock: Path) -> dict[str, str]:
    """Return the version of every package of a lock; raise ValueError if a line pins none."""
    found = {}
    text = lock.read_text(encoding="utf-8").replace("\\\n", "")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        pin = _PIN.fullmatch(line.strip())
        if pin is None:
            raise ValueError(f"{lock.name}: entry {number} pins no version: {line.strip()[:60]}")
        found[_canonical(pin[1])] = pin[2]
    if not found:
        raise ValueError(f"{lock.name}: pins nothing")
    return found


def ask(lock: Path, command: list[str]) -> list[dict[str, Any]]:
    """Return pip-audit's report on each package of a lock; raise ValueError if it has none.

    pip-audit gets the pins without markers: it would leave out packages whose marker does not hold
    on this machine.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, lock.name)
        path.write_text("".join(f"{name}=={version}\n" for name, version in pins(lock).items()))
        asked = [*command, "--requirement", str(path)]
        done = subprocess.run(asked, capture_output=True, text=True)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
        return found
    except (KeyError, TypeError, ValueError):
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ValueError(
            f"{lock.name}: no advisory service has answered ({reason}); nothing was audited"
        ) from None


def judge(lock: Path, report: list[dict[str, Any]]) -> list[str]:
    """Return a line for each vulnerability of a lock, or one line if packages were not audited."""
    said = {_canonical(entry["name"]): entry for entry in report}
    known = {
        name
        for name, version in pins(lock).items()
        if name in said and said[name].get("version") == version
    }
    unknown = [
        name
        for name in pins(lock)
        if name not in known or not isinstance(said[name].get("vulns"), list)
    ]
    lines = []
    if unknown:
        reason = said.get(unknown[0], {}).get("skip_reason", f"{unknown[0]}: no answer")
        lines.append(
            f"{lock.name}: {len(unknown)} of {len(pins(lock))} packages were not audited, the"
            f" first: {reason}"
        )
    for name in sorted(said):
        for fault in said[name].get("vulns", []):
            fixed = ", ".join(fault.get("fix_versions", [])) or "no version"
            lines.append(
                f"{lock.name}: {name} {said[name]['version']}: {fault['id']}, fixed in {fixed}"
            )
    return lines


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def audit(root: Path, command: list[str]) -> list[str]:
    lines = []
    for lock in locks(root):
        try:
            lines += judge(lock, ask(lock, command))
        except ValueError as error:
            lines.append(str(error))
    return lines if locks(root) else [f"{root}: no requirements*.txt"]


def main() -> None:
    end_unread()
    layout = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(
        "python -m tools.audit", description=__doc__, formatter_class=layout
    ).parse_args()
    lines = audit(Path.cwd(), _PIP_AUDIT)
    if lines:
        sys.exit("\n".join(f"error: audit: {line}" for line in lines))
    print(f"audit: no known vulnerability in {', '.join(lock.name for lock in locks(Path.cwd()))}")


if __name__ == "__main__":
    main()
