#!/usr/bin/env bash
# Install the cluster that the tests submit to, once, under .cache/servers: YARN on HDFS, of Maven's jars.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

place=$PWD/.cache/servers
yarn=$place/yarn-$(cat tests/cluster/hadoop/* | sha256sum | cut -c1-12)

need() { command -v "$1" >/dev/null || { echo "$1 is not here: $2" >&2; exit 1; }; }

if [[ ! -e $yarn/done ]]; then
  need mvn "install Maven; it fetches the jars of YARN"
  need javac "install a JDK, 17 or newer; a JRE has no compiler"
  echo "servers: YARN on HDFS"
  mvn -q -B -f tests/cluster/hadoop/pom.xml dependency:copy-dependencies \
    -DoutputDirectory="$yarn/jars" -DincludeScope=runtime
  javac -cp "$yarn/jars/*" -d "$yarn/classes" tests/cluster/hadoop/MiniYarn.java
  touch "$yarn/done"
fi
ln -sfn "$yarn" "$place/yarn"
