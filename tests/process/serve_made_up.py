"""`foretell serve`, but every worker runs a model of `served_models`: `serve_made_up.py LOADER [serve's arguments]`."""

import sys
from functools import partial

from foretell.cli import serve
from foretell.cli.main import main
from foretell.engine.worker.start import start_process_instance

if __name__ == "__main__":
    loader = f"served_models:{sys.argv[1]}"
    serve._start_instance = lambda isolation: partial(start_process_instance, loader=loader)
    sys.exit(main(["serve", *sys.argv[2:]]))
