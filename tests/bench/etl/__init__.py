"""How quickly a spec is applied, beside scikit-learn, Spark ML and hand-written Spark columns."""
