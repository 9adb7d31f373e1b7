"""A Spark Connect server until its input ends: python connect_server.py PORT FOLDER."""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession

port, folder = sys.argv[1:]
settings = {
    "spark.ui.enabled": "false",
    "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
    "spark.connect.grpc.binding.address": "127.0.0.1",
    "spark.connect.grpc.binding.port": port,
    "spark.sql.artifact.isolation.enabled": "true",
    "spark.sql.warehouse.dir": f"{folder}/warehouse",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "7",
    "spark.sql.shuffle.partitions": "1",
}
builder = SparkSession.builder.master("local[2]")
for key, value in settings.items():
    builder = builder.config(key, value)
session = builder.getOrCreate()
sys.stdout.write("ready\n")
sys.stdout.flush()
sys.stdin.read()
session.stop()
