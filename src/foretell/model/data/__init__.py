"""How a new input becomes the tensors of a signature."""
