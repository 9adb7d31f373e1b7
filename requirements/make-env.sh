#!/usr/bin/env bash
# Make one of the project's environments from its lock: .venv for dev, .venv-NAME for the others, .tools for uv.
# A second call with nothing changed ends at once. PYTHON names the Python 3.11 to use.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

name=${1:-}
case $name in
  dev) env=.venv lock=requirements/dev.txt ;;
  train | bench | spark35 | spark40 | zoo | airflow) env=.venv-$name lock=requirements/$name.txt ;;
  tools) env=.tools lock=requirements/uv.txt ;;
  *)
    echo "usage: requirements/make-env.sh dev|train|bench|spark35|spark40|zoo|airflow|tools" >&2
    exit 2
    ;;
esac

# What the environment is made from, this folder included: the scripts in its bin/ hold absolute paths.
inputs() {
  printf '%s\n' "$PWD"
  cat "$lock" requirements/make-env.sh
  [[ $name == tools ]] || cat requirements/build.txt pyproject.toml
}
is_made() { [[ -x $env/bin/python ]] && inputs | cmp -s - "$env/made-from"; }
if is_made; then exit 0; fi

find_python() {
  local candidate version
  for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3; do
    version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || version=
    if [[ $version == 3.11 ]]; then
      command -v "$candidate"
      return
    fi
    if [[ $candidate == "${PYTHON:-}" ]]; then break; fi
  done
  if [[ -n $version ]]; then version="is Python $version"; else version="does not run"; fi
  echo "make-env: Python 3.11 is needed, and $candidate $version." >&2
  echo "Install Python 3.11, or name it: PYTHON=/path/to/python3.11" >&2
  return 1
}
python=$(find_python)

# One maker at a time. The lock belongs to the open file, which outlives the Python that takes it; macOS has no flock(1).
mkdir -p .cache
exec 9>".cache/env-$name.lock"
"$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
if is_made; then exit 0; fi

if [[ $name == tools ]]; then
  echo "env: making .tools from $lock"
  # No pip inside: a Debian Python may have no ensurepip, and pip can install into another environment.
  "$python" -m venv --clear --without-pip .tools
  "$python" -m pip --python .tools/bin/python install --quiet --disable-pip-version-check \
    --require-hashes --no-deps --requirement "$lock"
else
  requirements/make-env.sh tools
  echo "env: making $env from $lock (the first time it downloads some hundred MB)"
  # A half-made environment, one from another folder or with another Python is made anew; any other is brought up to date.
  if [[ -e $env/incomplete || "$(head -n 1 "$env/made-from" 2>/dev/null || pwd)" != "$PWD" ]] ||
    ! "$env/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
    .tools/bin/uv venv --quiet --clear --python "$python" "$env"
  fi
  touch "$env/incomplete"
  rm -f "$env/made-from"
  target=(--quiet --python "$env/bin/python" --build-constraints requirements/build.txt)
  .tools/bin/uv pip sync "${target[@]}" --require-hashes "$lock"
  .tools/bin/uv pip install "${target[@]}" --no-deps --editable .
  rm "$env/incomplete"
fi
inputs >"$env/made-from"
