#!/usr/bin/env bash
# Tell whether the Java that Spark will start is 17 or newer. Spark looks in JAVA_HOME, then on PATH.
set -euo pipefail

if [[ -n ${JAVA_HOME:-} ]]; then
  java=$JAVA_HOME/bin/java
  found="JAVA_HOME is $JAVA_HOME, which has no bin/java"
else
  java=$(command -v java || true)
  found="no java on PATH and JAVA_HOME is not set"
fi
if [[ -n $java && -x $java ]]; then
  # 'openjdk version "17.0.15" 2025-04-15'; Java 8 says "1.8.0_292".
  version=$("$java" -version 2>&1 | sed -n 's/.* version "\([^"]*\)".*/\1/p' | head -n 1 || true)
  major=${version#1.}
  major=${major%%[!0-9]*}
  if [[ -n $major && $major -ge 17 ]]; then exit 0; fi
  found="found Java ${version:-that does not tell its version} at $java"
fi
cat >&2 <<MESSAGE
Spark needs Java 17 or newer: $found.
  Debian, Ubuntu: apt-get install openjdk-17-jre-headless
  macOS:          brew install openjdk@17
  Or set JAVA_HOME to the folder of a Java 17.
MESSAGE
exit 1
