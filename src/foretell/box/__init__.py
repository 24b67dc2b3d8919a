"""Box the calling process in, as far as the kernel lets an ordinary user.

Knows the kernel and nothing of models. What a system lacks is left out, and said.
"""

from foretell.box.process import enter

__all__ = ["enter"]
