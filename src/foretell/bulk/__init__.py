"""Files in, predictions out: read, predict and write overlap, rows keep their order, memory is bounded."""
