"""What the outputs of a runtime mean: a price, a label with its probability."""
