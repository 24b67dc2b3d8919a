"""What the benchmark of serving needs: processes, load, questions with known answers, tables."""
