#!/bin/sh
# Install locks into an environment; make the environment first if it is missing. Uses uv if it is on
# PATH, else venv and pip.
#
#     [PYTHON=/path/to/python] tools/install.sh FOLDER LOCK…
#
# Runs before any library is installed, so it needs only a shell. An environment that works is kept,
# unless PYTHON names another version of Python; results do not depend on the version.
set -eu
FITS='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'
RANGE="Python 3.11 to 3.14"
WAY="run make PYTHON=/path/to/python3.13"

fail() {
	echo "error: set-up: $*" >&2
	exit 1
}

# make puts .venv/bin first on PATH. Look for Python and uv elsewhere.
outside=
IFS=:
for part in $PATH; do
	[ "$part" = "$PWD/.venv/bin" ] || outside=$outside${outside:+:}$part
done
unset IFS
find_outside() { PATH=$outside command -v "$1"; }
uv=$(find_outside uv || true)

fits() { "$1" -c "$FITS" >/dev/null 2>&1; }
version_of() { "$1" -c 'import sys; print(*sys.version_info[:2], sep=".")' 2>/dev/null || true; }

# Without uv, Python's own venv is needed, which Debian has in a package of its own.
makes_environments() { [ -n "$uv" ] || "$1" -c "import ensurepip" >/dev/null 2>&1; }

# Print the Python for a new environment: PYTHON, else the newest on PATH that fits; nothing if none fits.
choose_python() {
	for name in ${PYTHON:+"$PYTHON"} python3.14 python3.13 python3.12 python3.11 python3; do
		path=$(find_outside "$name") && fits "$path" && makes_environments "$path" && echo "$path" && return
		[ -z "${PYTHON-}" ] || fail "$PYTHON is not $RANGE with venv; $WAY"
	done
}

make_environment() {
	python=$(choose_python)
	# Other clones may use the environment behind a link, so do not replace it.
	[ ! -L "$folder" ] || [ ! -e "$folder/pyvenv.cfg" ] ||
		fail "$folder is a link to an environment of another Python; remove the link, and run make again"
	real=$(readlink -f "$folder" 2>/dev/null || echo "$folder")
	# The folder behind a link may hold more than an environment, so do not clear it.
	clear=--clear
	[ ! -L "$folder" ] || clear=
	if [ -n "$uv" ]; then
		"$uv" venv --quiet $clear --python "${python:->=3.11,<3.15}" "$real" ||
			fail "uv found no $RANGE, see above; $WAY"
	elif [ -z "$python" ]; then
		fail "no $RANGE with venv on PATH; install one (Debian: python3-venv) or uv, which brings one, or $WAY"
	else
		"$python" -m venv $clear "$real" || fail "$python could not make $folder, see above"
	fi
}

install() {
	if [ -n "$uv" ]; then
		"$uv" pip install --quiet --python "$folder/bin/python" --no-deps --require-hashes "$@"
	else
		"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes "$@"
	fi
}

has_gpu() { [ -e /proc/driver/nvidia/version ] || command -v nvidia-smi >/dev/null; }

# Install torch's CPU build, which is 6 GB smaller, if there is no GPU and an index has it: the user's
# index, or PyTorch's own, which uv knows. Its version is the locked one with +cpu.
install_cpu_torch() {
	[ "$(uname)" = Linux ] && ! has_gpu || return 0
	entry=$(sed -n '/^torch==/,/[^\\]$/p' "$1")
	version=$(echo "$entry" | sed -n 's/^torch==\([^ ;]*\).*/\1/p')
	[ -n "$version" ] && ! ls -d "$packages"/torch-"$version"[.+]*dist-info >/dev/null 2>&1 || return 0
	echo "$entry" | sed "1s/==$version/&+cpu/" >"$folder/torch_cpu.txt"
	for backend in "" ${uv:+--torch-backend=cpu}; do
		UV_HTTP_RETRIES=1 install ${backend:+"$backend"} -r "$folder/torch_cpu.txt" >/dev/null 2>"$folder/torch_cpu.log" && return
	done
	reason=$(sed -n '/ERROR\|×/{s/^ *//;p;q;}' "$folder/torch_cpu.log")
	echo "set-up: no index offers the locked CPU build of torch ($reason); the CUDA build takes 6 GB" >&2
}

torch_needs_cuda() { grep -qs "^Requires-Dist: nvidia-" "$packages"/torch-*.dist-info/METADATA; }

[ $# -ge 2 ] || fail "usage: tools/install.sh FOLDER LOCK…"
folder=$1
shift
if ! fits "$folder/bin/python"; then
	make_environment
elif [ -n "${PYTHON-}" ] && asked=$(find_outside "$PYTHON") &&
	[ "$(version_of "$asked")" != "$(version_of "$folder/bin/python")" ]; then
	make_environment
fi
if [ -z "$uv" ] && ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
	"$folder/bin/python" -m ensurepip >/dev/null || fail "$folder has no pip; remove it, and run make again"
fi
packages=$(echo "$folder"/lib/python*/site-packages)
for lock; do
	[ "$lock" != requirements.txt ] || install_cpu_torch "$lock"
	[ "$lock" != requirements-cuda.txt ] || torch_needs_cuda || continue
	install -r "$lock" ||
		fail "could not install $lock, see above; is the package index within reach? Run make again: it goes on"
done
