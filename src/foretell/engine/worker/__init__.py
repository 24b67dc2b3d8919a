"""Where models run: in processes of their own, boxed in, or inside the front. Knows no queue and no deadline.

    front     start.py -> instance.py -> link.py      local.py runs a model inside the front instead
    between   frames.py, texts.py, slots.py
    worker    child.py -> serving.py -> wire.py, warmup.py

Importing this package loads nothing: a worker is boxed in before numpy is there.
"""
