"""Check whether this processor can run portable kernels. Imports neither torch nor numpy."""

from pathlib import Path

# Flags that Linux lists for an x86-64 processor in /proc/cpuinfo.
NEEDED = ("avx2", "fma")

_LISTED = Path("/proc/cpuinfo")


def lacks() -> str | None:
    """Return why this processor cannot compute the portable bytes, or None if it can.

    A processor without a list of flags, as on ARM and macOS, cannot.
    """
    lines = _LISTED.read_text(errors="replace").splitlines() if _LISTED.exists() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), None)
    if flags is None:
        return "this processor is no x86-64 with AVX2"
    missing = [flag for flag in NEEDED if flag not in flags]
    return f"this processor has no {' and no '.join(missing)}" if missing else None


def warning() -> str | None:
    """Return the warning that this processor cannot compute the portable bytes, None if it can."""
    reason = lacks()
    if reason is None:
        return None
    return (
        f"warning: numerics.kernels is portable, and {reason}: figures will differ from the "
        "committed ones (docs/training.md)"
    )
