#!/usr/bin/env bash
# Run a scoring job on Spark. Packs etl, scoring and jobs as a zip, so that driver and workers run the same code.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: ./spark-submit.sh CONFIG.yaml [option …]

Of the job:
  --set KEY=VALUE     replace one value of the config; may be repeated
  --run-id ID         name the run; the same id again resumes it, or says that it is published
  --limit N           score the first N rows only
  --sample P          score a share of the rows, 0 < P ≤ 1
  --debug             tell more, Spark's warnings too

Of Spark:
  --master MASTER     default local[*,4]: all cores, a task may fail three times
  --deploy-mode MODE  client, the default and the only one: cluster mode hides the exit code
  --conf KEY=VALUE    a Spark setting; may be repeated

  --dry-run           print the command instead of running it
  --help              print this

Exit codes: 0 published, 1 failed, 2 refused before work, 3 outcome unknown, 4 finished but not published.

PYSPARK_PYTHON names the Python of the workers and, unless PYSPARK_DRIVER_PYTHON does, of the driver;
without it: .venv/bin/python beside this script, then python3.11. Spark is SPARK_HOME, then that Python's pyspark,
then the spark-submit on PATH.
TEXT
}

refuse() {
  echo "spark-submit.sh: $1" >&2
  exit 2
}

refuse_usage() {
  echo "spark-submit.sh: $1" >&2
  usage >&2
  exit 2
}

# A word as it is to be typed.
quoted() {
  if [[ $1 =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]]; then printf '%s' "$1"; else printf "'%s'" "${1//\'/\'\\\'\'}"; fi
}

asked=("$0" "$@")
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
config='' master='local[*,4]' deploy_mode=client dry_run='' log_level=error executor_log=off
job_options=() spark_options=()

while (($#)); do
  option=$1 && shift
  case $option in
    --set | --run-id | --limit | --sample | --master | --deploy-mode | --conf)
      [[ $# -gt 0 && -n $1 && $1 != --* ]] || refuse_usage "$option needs a value"
      value=$1 && shift
      ;;
    --set=?* | --run-id=?* | --limit=?* | --sample=?* | --master=?* | --deploy-mode=?* | --conf=?*)
      value=${option#*=} option=${option%%=*}
      ;;
  esac
  case $option in
    --set | --run-id | --limit | --sample) job_options+=("$option" "$value") ;;
    --debug) job_options+=(--debug) log_level=warn executor_log=warn ;;
    --master) master=$value ;;
    --deploy-mode) deploy_mode=$value ;;
    --conf) spark_options+=(--conf "$value") ;;
    --dry-run) dry_run=yes ;;
    -h | --help) usage && exit 0 ;;
    -*) refuse_usage "unknown option $option" ;;
    *)
      [[ -z $config ]] || refuse_usage "one config, please: $config or $option"
      config=$option
      ;;
  esac
done
[[ -n $config ]] || refuse_usage "which config?"
# YARN and Kubernetes tell of a driver of their own only whether it failed: 1 to 4 would all be 1.
[[ $deploy_mode != cluster ]] ||
  refuse "--deploy-mode cluster is not supported: Spark would hide the exit code. Submit in client mode."
[[ $deploy_mode == client ]] || refuse_usage "--deploy-mode is client"

# The folder of a script and the working folder stay off sys.path: a stray scoring/ there would be taken for ours.
export PYTHONSAFEPATH=1

if [[ -z ${PYSPARK_PYTHON:-} ]]; then
  if [[ -x $root/.venv/bin/python ]]; then
    PYSPARK_PYTHON=$root/.venv/bin/python
  else
    PYSPARK_PYTHON=$(command -v python3.11) || refuse "no python3.11. Run \`make env\`, or set PYSPARK_PYTHON."
  fi
fi
export PYSPARK_PYTHON PYSPARK_DRIVER_PYTHON=${PYSPARK_DRIVER_PYTHON:-$PYSPARK_PYTHON}

# Prints the path of the zip, then that of pyspark's own spark-submit, if this Python has one.
pack() {
  "$PYSPARK_DRIVER_PYTHON" - "$@" <<'PY'
import hashlib
import importlib.util
import os
import sys
import tempfile
import zipfile
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit(f"spark-submit.sh: {sys.executable} is Python {sys.version.split()[0]}; 3.11 is needed. Set PYSPARK_PYTHON.")
root, cache = map(Path, sys.argv[1:])
contents = {}
for path in sorted(path for package in ("etl", "scoring", "jobs") for path in (root / package).rglob("*")):
    name = path.relative_to(root)
    if path.is_file() and path.suffix != ".pyc" and not any(part.startswith(".") for part in name.parts):
        contents[name.as_posix()] = path.read_bytes()
digest = hashlib.sha256()
for name, data in contents.items():
    digest.update(f"{name}\0{len(data)}\0".encode() + data)
code = cache / f"code-{digest.hexdigest()}.zip"
try:
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    if cache.stat().st_uid != os.getuid():
        sys.exit(f"spark-submit.sh: {cache} belongs to another user. Set XDG_CACHE_HOME to a folder of your own.")
    cache.chmod(0o700)
    if not code.exists():
        with tempfile.NamedTemporaryFile(dir=cache, delete=False) as file, zipfile.ZipFile(file, "w") as archive:
            for name, data in contents.items():
                archive.writestr(zipfile.ZipInfo(name), data)  # dated 1980: the same code, the same bytes
        os.replace(file.name, code)
except OSError as error:
    sys.exit(f"spark-submit.sh: cannot keep the code's zip: {error}. Set XDG_CACHE_HOME to a folder of your own.")
print(code)
pyspark = importlib.util.find_spec("pyspark")
if pyspark and pyspark.origin:
    print(Path(pyspark.origin).parent / "bin" / "spark-submit")
PY
}

packed=$(pack "$root" "${XDG_CACHE_HOME:-${HOME:-$root}/.cache}/batchscore") ||
  refuse "$PYSPARK_DRIVER_PYTHON could not pack the code."
zip=${packed%%$'\n'*} own_submit=${packed#"$zip"} own_submit=${own_submit#$'\n'}

if [[ -n ${SPARK_HOME:-} ]]; then
  submit=$SPARK_HOME/bin/spark-submit
  [[ -x $submit ]] || refuse "SPARK_HOME is $SPARK_HOME, which has no bin/spark-submit."
elif [[ -x $own_submit ]]; then
  submit=$own_submit
  export SPARK_HOME=${own_submit%/bin/spark-submit}
else
  submit=$(command -v spark-submit) || refuse "no Spark. Run \`make env\`, or set SPARK_HOME."
fi

# For the JVM of spark-submit alone. A log4j setting in spark.driver.extraJavaOptions comes later, and wins.
log4j="-Dlog4j2.configurationFile=$root/conf/spark/log4j2.properties"
export SPARK_SUBMIT_OPTS="\"$log4j\" -Dbatchscore.spark.log=$log_level -Dbatchscore.spark.executor.log=$executor_log${SPARK_SUBMIT_OPTS:+ $SPARK_SUBMIT_OPTS}"

name=${config##*/}
command=(
  "$submit"
  --master "$master"
  --deploy-mode "$deploy_mode"
  --name "batchscore ${name%.*}"
  --py-files "$zip"
  --conf spark.ui.showConsoleProgress=false
)
for place in spark.executorEnv spark.yarn.appMasterEnv spark.kubernetes.driverEnv; do
  command+=(--conf "$place.PYSPARK_PYTHON=$PYSPARK_PYTHON" --conf "$place.PYTHONSAFEPATH=1")
done
command+=(${spark_options[@]+"${spark_options[@]}"})
job=("$root/jobs/main.py" run "$config" ${job_options[@]+"${job_options[@]}"})

if [[ -n $dry_run ]]; then
  for variable in PYTHONSAFEPATH PYSPARK_PYTHON PYSPARK_DRIVER_PYTHON SPARK_HOME SPARK_SUBMIT_OPTS; do
    if [[ -n ${!variable:-} ]]; then printf '%s=%s \\\n' "$variable" "$(quoted "${!variable}")"; fi
  done
  printf '%s' "$(quoted "$submit")"
  set -- "${command[@]:1}" "${job[@]}"
  while (($#)); do
    if [[ $1 == --* && $# -gt 1 && $2 != --* ]]; then
      printf ' \\\n  %s %s' "$1" "$(quoted "$2")" && shift 2
    else
      printf ' \\\n  %s' "$(quoted "$1")" && shift
    fi
  done
  printf '\n'
  exit 0
fi

"$root/requirements/check-java.sh" || exit 2

# The Python driver under the JVM of spark-submit: its child whose command line has jobs/main.py.
# shellcheck disable=SC2329  # called by the traps, as is forward
driver_of() {
  local stat arguments parent
  if [[ ! -r /proc/self/stat ]]; then
    ps -A -o pid=,ppid=,args= | awk -v jvm="$1" '$2 == jvm && index($0, "jobs/main.py") { print $1 }'
    return
  fi
  for stat in /proc/[0-9]*/stat; do
    # pid (name) state parent …; the name may hold anything.
    { read -r parent <"$stat"; } 2>/dev/null || continue
    parent=${parent##*) ? } parent=${parent%% *}
    [[ $parent == "$1" ]] || continue
    arguments=$(tr '\0' ' ' <"${stat%stat}cmdline" 2>/dev/null) || continue
    if [[ $arguments == *jobs/main.py* ]]; then stat=${stat%/stat} && echo "${stat##*/}"; fi
  done
}

# A signal is for the Python driver, which writes down that the run was cancelled; the JVM must outlive it, because
# it carries the driver's exit code. Before there is a driver there is nothing to write down, and all of it stops.
signalled=''
# shellcheck disable=SC2329
forward() {
  local driver
  signalled=yes
  driver=$(driver_of "$jvm")
  if [[ -n $driver ]]; then kill "-$1" "$driver" 2>/dev/null || true; else kill -TERM -- "-$jvm" 2>/dev/null || true; fi
}

# The JVM itself says on stderr that it uses an incubator module, and nothing can tell it not to.
exec 3> >(trap '' INT TERM HUP && exec grep --line-buffered -v 'WARNING: Using incubator modules' >&2)
filter=$!
# Spark would hand on both streams of the Python driver as one, and no terminal. So the driver opens them itself:
# jobs/commands/process.py.
unset BATCHSCORE_STDOUT BATCHSCORE_STDERR
if [[ -t 1 ]]; then
  { BATCHSCORE_STDOUT=$(tty <&4) && export BATCHSCORE_STDOUT; } 4>&1
fi
if [[ -t 2 ]]; then
  BATCHSCORE_STDERR=$(tty <&2) && export BATCHSCORE_STDERR
elif [[ -e /proc/$$/fd/3 ]]; then
  export BATCHSCORE_STDERR=/proc/$$/fd/3
fi
# What the driver tells to type in order to go on.
BATCHSCORE_COMMAND=$(for word in "${asked[@]}"; do printf '%s ' "$(quoted "$word")"; done)
export BATCHSCORE_COMMAND
# Job control gives Spark a process group of its own: Ctrl-C at the terminal reaches this script alone.
set -m
"${command[@]}" "${job[@]}" </dev/null 2>&3 3>&- &
jvm=$!
set +m
trap 'forward INT' INT
trap 'forward TERM' TERM HUP

code=0
while :; do
  signalled=''
  wait "$jvm" && code=0 || code=$?
  [[ -n $signalled ]] || break
done

# In a container this is process 1, and what has not been written when it ends never will be.
trap 'exit "$code"' INT TERM HUP
exec 3>&-
wait "$filter" || true
# This is the Python driver's exit code, which spark-submit hands on.
exit "$code"
