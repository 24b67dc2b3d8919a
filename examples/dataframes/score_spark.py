"""Score a CSV file with Spark: score_spark.py BUNDLE IN.csv OUT, a folder of Parquet files."""

import os
import sys
from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import SparkSession

import foretell

bundle, given, out = sys.argv[1:]
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # on one machine: with the same packages as this script
spark = SparkSession.builder.appName("score").getOrCreate()
spark.sparkContext.addFile(bundle, recursive=True)  # every machine gets a copy of the bundle


def predict(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    from pyspark import SparkFiles

    model = foretell.load(SparkFiles.get(os.path.basename(os.path.abspath(bundle))), threads=1)  # once a task
    for homes in batches:
        prices = model.predict(homes).to_arrow()
        yield from prices.add_column(0, "Id", homes["Id"]).to_batches()


homes = spark.read.csv(given, header=True, inferSchema=True)
homes.mapInArrow(predict, "Id int, prediction double").write.mode("overwrite").parquet(out)
