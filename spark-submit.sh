#!/usr/bin/env bash
# Run a scoring job on Spark. Packs etl, scoring and jobs as a zip, so that driver and workers run the same code.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: ./spark-submit.sh CONFIG.yaml [option …]

Of the job:
  --set KEY=VALUE     replace one value of the config; may be repeated
  --run-id ID         name the run; the same id again resumes it, or says that it is published
  --logical-date D    the date that a schedule means: fills in ${LOGICAL_DATE}, and names the run JOB-DATE
  --limit N           score the first N rows only
  --sample P          score a share of the rows, 0 < P ≤ 1
  --debug             tell more, Spark's warnings too
  --doctor            score nothing: look whether driver and workers have what the job needs

Where it runs:
  --target TARGET     local, standalone, yarn, k8s, emr, emr-serverless, dataproc, dataproc-serverless;
                      default: what --master says, and without that local
  --master MASTER     Spark's own name of it; default local[*,4]: all cores, a task may fail three times
  --deploy-mode MODE  where the driver runs: client, on this machine, or cluster; default client, of services cluster
  --environment FILE  the Python of the workers as `batchscore pack` made it, here or in a store
  --gpus N            GPUs of an executor, one task on each
  --profile NAME      settings of conf/spark/profiles: cpu, gpu, small, large; may be repeated, later ones win
  --conf KEY=VALUE    a Spark setting, which wins over those of profiles; may be repeated

Of services and Kubernetes:
  --stage URI         a folder of a store, for code and config; of Kubernetes one that Spark itself can write: s3a://…
  --cluster ID        of EMR or Dataproc
  --application ID    of EMR Serverless
  --role NAME         ARN of a role, or a service account, that the job runs as
  --region NAME       of the service
  --image IMAGE       a container's, of Kubernetes or Dataproc Serverless
  --namespace NAME    of Kubernetes

  --dry-run           print the command instead of running it; aws, gcloud and kubectl need not be here for that
  --help              print this

Exit codes: 0 published, 1 failed, 2 refused before work, 3 outcome unknown (as where Spark was killed), 4 finished but
not published. In cluster mode the record of the run tells them; a run without a record has ended as 3.

PYSPARK_PYTHON names the Python of the workers and, unless PYSPARK_DRIVER_PYTHON does, of the driver;
without it: .venv/bin/python beside this script, then python3.11; in containers of Kubernetes
/opt/batchscore/env/bin/python, as conf/k8s/Dockerfile has it. Spark is SPARK_HOME, then that Python's pyspark,
then the spark-submit on PATH.
TEXT
}

refuse() {
  echo "spark-submit.sh: $1" >&2
  exit 2
}

refuse_usage() {
  printf 'spark-submit.sh: %s\n' "$@" >&2
  echo "See ./spark-submit.sh --help." >&2
  exit 2
}

# A word as it is to be typed.
quoted() {
  if [[ $1 =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]]; then printf '%s' "$1"; else printf "'%s'" "${1//\'/\'\\\'\'}"; fi
}

asked=("$0" "$@")
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
config='' target='' master='' deploy_mode='' dry_run='' debug='' verb=run log_level=error executor_log=off
job_options=() spark_options=() place_options=()

while (($#)); do
  option=$1 && shift
  case $option in
    --set | --run-id | --logical-date | --limit | --sample | --target | --master | --deploy-mode | --conf | \
      --environment | --gpus | --profile | --stage | --cluster | --application | --role | --region | --image | --namespace)
      [[ $# -gt 0 && -n $1 && $1 != --* ]] || refuse_usage "$option needs a value"
      value=$1 && shift
      ;;
    --set=?* | --run-id=?* | --logical-date=?* | --limit=?* | --sample=?* | --target=?* | --master=?* | \
      --deploy-mode=?* | --conf=?* | --environment=?* | --gpus=?* | --profile=?* | --stage=?* | --cluster=?* | \
      --application=?* | --role=?* | --region=?* | --image=?* | --namespace=?*)
      value=${option#*=} option=${option%%=*}
      ;;
  esac
  case $option in
    --gpus | --limit) [[ $value =~ ^[0-9]+$ ]] || refuse_usage "$option $value: a whole number, please" ;;
  esac
  case $option in
    --set | --run-id | --logical-date | --limit | --sample) job_options+=("$option" "$value") ;;
    --debug) log_level=warn executor_log=warn debug=yes ;;
    --environment | --gpus | --profile) place_options+=("$option" "$value") ;;
    --stage | --cluster | --application | --role | --region | --image | --namespace)
      place_options+=(--place "${option#--}=$value")
      ;;
    --target) target=$value ;;
    --master) master=$value ;;
    --deploy-mode) deploy_mode=$value ;;
    --conf) spark_options+=(--conf "$value") ;;
    --dry-run) dry_run=yes ;;
    --doctor) verb=doctor ;;
    -h | --help) usage && exit 0 ;;
    -*) refuse_usage "unknown option $option" ;;
    *)
      [[ -z $config ]] || refuse_usage "one config, please: $config or $option"
      config=$option
      ;;
  esac
done
[[ -n $config ]] || refuse_usage "which config?"
if [[ $verb == doctor ]]; then
  for option in ${job_options[@]+"${job_options[@]}"}; do
    case $option in
      --run-id | --limit | --sample)
        refuse_usage "--doctor scores nothing, so there is no $option: leave one of them out"
        ;;
    esac
  done
fi
if [[ -z $target ]]; then
  case $master in
    yarn) target=yarn ;;
    spark://*) target=standalone ;;
    k8s://*) target=k8s ;;
    *) target=local ;;
  esac
fi
case $target in
  local)
    master=${master:-local[*,4]} deploy_mode=${deploy_mode:-client}
    problems=()
    [[ $master == local* ]] || problems+=("--target local has no --master $master, but local, local[N] or local-cluster[…]")
    [[ $deploy_mode == client ]] || problems+=("--target local has no --deploy-mode but client")
    for ((at = 0; at < ${#place_options[@]}; at += 2)); do
      option=${place_options[at]} value=${place_options[at + 1]}
      if [[ $option == --place ]]; then option=--${value%%=*} value=${value#*=}; fi
      problems+=("--target local takes no $option $value")
    done
    for ((at = 1; at < ${#spark_options[@]}; at += 2)); do
      [[ ${spark_options[at]} == ?*=* ]] || problems+=("--conf ${spark_options[at]}: KEY=VALUE, please")
    done
    ((${#problems[@]} == 0)) || refuse_usage "${problems[@]}"
    ;;
  standalone | yarn | k8s) deploy_mode=${deploy_mode:-client} ;;
  emr | emr-serverless | dataproc | dataproc-serverless) deploy_mode=${deploy_mode:-cluster} ;;
  *) refuse_usage "unknown target $target" ;;
esac
[[ $deploy_mode == client || $deploy_mode == cluster ]] || refuse_usage "--deploy-mode is client or cluster"

# The folder of a script and the working folder stay off sys.path: a stray scoring/ there would be taken for ours.
export PYTHONSAFEPATH=1

if [[ -z ${PYSPARK_PYTHON:-} ]]; then
  if [[ -x $root/.venv/bin/python ]]; then
    PYSPARK_PYTHON=$root/.venv/bin/python
  else
    PYSPARK_PYTHON=$(command -v python3.11) || refuse "no python3.11. Run \`make env\`, or set PYSPARK_PYTHON."
  fi
  if [[ $target == k8s ]]; then
    # Containers have the Python of conf/k8s/Dockerfile, and not that of this machine.
    PYSPARK_DRIVER_PYTHON=${PYSPARK_DRIVER_PYTHON:-$PYSPARK_PYTHON} PYSPARK_PYTHON=/opt/batchscore/env/bin/python
  fi
fi
export PYSPARK_PYTHON PYSPARK_DRIVER_PYTHON=${PYSPARK_DRIVER_PYTHON:-$PYSPARK_PYTHON}

if [[ $target == local && -n $dry_run ]]; then
  # A run refuses it by itself.
  for ((at = 0; at < ${#job_options[@]}; at += 2)); do
    [[ ${job_options[at]} != --logical-date ]] || "$PYSPARK_DRIVER_PYTHON" -c \
      'import datetime, sys; datetime.datetime.fromisoformat(sys.argv[1])' "${job_options[at + 1]}" 2>/dev/null ||
      refuse_usage "--logical-date ${job_options[at + 1]}: write 2026-11-26, or 2026-11-26T06:00:00+00:00"
  done
fi

# The path of the code's zip, then that of pyspark's own spark-submit, if this Python has one.
cache=${XDG_CACHE_HOME:-${HOME:-$root}/.cache}/batchscore
packed=$("$PYSPARK_DRIVER_PYTHON" "$root/jobs/deploying/code_zip.py" "$root" "$cache") ||
  refuse "$PYSPARK_DRIVER_PYTHON could not pack the code."
zip=${packed%%$'\n'*} own_submit=${packed#"$zip"} own_submit=${own_submit#$'\n'}

# All but a run on this machine is put into words by the code itself, in place of this shell: a signal is for it.
on_cluster() {
  PYTHONPATH=$zip exec "$PYSPARK_DRIVER_PYTHON" -m jobs.main submit "$config" --target "$target" --deploy-mode "$deploy_mode" \
    --home "$root" --code "$zip" ${master:+--master "$master"} ${place_options[@]+"${place_options[@]}"} \
    ${spark_options[@]+"${spark_options[@]}"} ${job_options[@]+"${job_options[@]}"} ${debug:+--word --debug} --verb "$verb" "$@"
}
if [[ $target == emr* || $target == dataproc* ]]; then
  on_cluster ${dry_run:+--show command}
fi

if [[ -n ${SPARK_HOME:-} ]]; then
  submit=$SPARK_HOME/bin/spark-submit
  [[ -x $submit ]] || refuse "SPARK_HOME is $SPARK_HOME, which has no bin/spark-submit."
elif [[ -x $own_submit ]]; then
  submit=$own_submit
  export SPARK_HOME=${own_submit%/bin/spark-submit}
else
  submit=$(command -v spark-submit) || refuse "no Spark. Run \`make env\`, or set SPARK_HOME."
fi

if [[ $target == yarn && -z $dry_run${HADOOP_CONF_DIR:-}${YARN_CONF_DIR:-} && -n ${SPARK_HOME:-} &&
  ! -e ${SPARK_CONF_DIR:-$SPARK_HOME/conf}/spark-env.sh ]]; then
  refuse "yarn needs HADOOP_CONF_DIR, the folder of the cluster's core-site.xml and yarn-site.xml."
fi

# For the JVM of spark-submit alone. A log4j setting in spark.driver.extraJavaOptions comes later, and wins.
log4j="-Dlog4j2.configurationFile=$root/conf/spark/log4j2.properties"
export SPARK_SUBMIT_OPTS="\"$log4j\" -Dbatchscore.spark.log=$log_level -Dbatchscore.spark.executor.log=$executor_log${SPARK_SUBMIT_OPTS:+ $SPARK_SUBMIT_OPTS}"

if [[ $deploy_mode == cluster ]]; then
  export PATH=${submit%/*}:$PATH
  on_cluster ${dry_run:+--show command}
fi
if [[ $target == local ]]; then
  asked_for=("$verb" "$config")
  [[ $verb == run ]] || asked_for+=(--cluster)
  name=${config##*/}
  command=(
    "$submit"
    --master "$master"
    --deploy-mode "$deploy_mode"
    --name "batchscore ${name%.*}"
    --py-files "$zip"
    --conf spark.ui.showConsoleProgress=false
    --conf "spark.executorEnv.PYSPARK_PYTHON=$PYSPARK_PYTHON"
    --conf spark.executorEnv.PYTHONSAFEPATH=1
    ${spark_options[@]+"${spark_options[@]}"}
    "$root/jobs/main.py" "${asked_for[@]}" ${job_options[@]+"${job_options[@]}"} ${debug:+--debug}
  )
else
  command=()
  while IFS= read -r -d '' word; do command+=("$word"); done < <(on_cluster --show words)
  ((${#command[@]})) || exit 2
  command[0]=$submit
  # What Spark starts on the workers; the driver runs here.
  for word in ${place_options[@]+"${place_options[@]}"}; do
    if [[ $word == --environment ]]; then PYSPARK_PYTHON=./environment/bin/python; fi
  done
fi

if [[ -n $dry_run ]]; then
  for variable in PYTHONSAFEPATH PYSPARK_PYTHON PYSPARK_DRIVER_PYTHON SPARK_HOME SPARK_SUBMIT_OPTS; do
    if [[ -n ${!variable:-} ]]; then printf '%s=%s \\\n' "$variable" "$(quoted "${!variable}")"; fi
  done
  printf '%s' "$(quoted "$submit")"
  set -- "${command[@]:1}"
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
signalled='' heard=''
# shellcheck disable=SC2329
forward() {
  local driver
  signalled=yes heard=yes
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
"${command[@]}" </dev/null 2>&3 3>&- &
jvm=$!
set +m
trap 'forward INT' INT
trap 'forward TERM' TERM HUP

code=0
while :; do
  signalled=''
  # Without a shell's own line on a process that was killed.
  { wait "$jvm" && code=0 || code=$?; } 2>/dev/null
  [[ -n $signalled ]] || break
done

if ((code > 128)) && [[ -z $heard ]]; then
  # The JVM was killed, as where memory is short. The driver, which nobody waits for any more, writes that down.
  for ((at = 0; at < 150; at++)); do
    kill -0 -- "-$jvm" 2>/dev/null || break
    sleep 0.2
  done
  echo "spark-submit.sh: Spark was killed by signal $((code - 128)). Run the same id again to go on." >&3
  code=3
fi

# In a container this is process 1, and what has not been written when it ends never will be.
trap 'exit "$code"' INT TERM HUP
exec 3>&-
wait "$filter" || true
# This is the Python driver's exit code, which spark-submit hands on.
exit "$code"
