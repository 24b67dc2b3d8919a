"""How far the preparation of a bundle is from that of the training code, and why."""
