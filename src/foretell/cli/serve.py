"""`foretell serve PATH...`: models over HTTP and gRPC."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretell.errors import ConfigError

if TYPE_CHECKING:
    from foretell.engine.engine import Engine
    from foretell.engine.instance import StartInstance

__all__ = ["add"]


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "serve",
        parents=[shared],
        help="answer requests over HTTP and gRPC",
        description="Serve models: artifacts, bundles, or folders of them. Stops on SIGTERM, after answering.",
    )
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="an artifact, a bundle, a folder of models")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--http-port", type=int, default=8000, metavar="N", help="0: any free one")
    parser.add_argument("--grpc-port", type=int, default=8001, metavar="N", help="0: any free one")
    parser.add_argument("--no-http", action="store_true", help="no HTTP")
    parser.add_argument("--no-grpc", action="store_true", help="no gRPC")
    parser.add_argument("--isolation", choices=("process", "none"), help="where models run; process where it can be")
    parser.add_argument("--trust", action="store_true", help="open files that may run code, boxed in")
    _add_engine(parser.add_argument_group("engine"))
    _add_doors(parser.add_argument_group("doors"))
    parser.set_defaults(run=_run)


def _add_engine(group: Any) -> None:
    group.add_argument("--instances", type=int, metavar="N", help="copies of each model; by measured cost")
    group.add_argument("--threads", type=int, metavar="N", help="processors a call may use; by measured cost")
    group.add_argument("--max-batch-size", type=int, metavar="ROWS", help="most rows of a batch")
    group.add_argument("--max-queue-rows", type=int, metavar="ROWS", help="most rows that wait")
    group.add_argument("--default-timeout", type=float, metavar="S", help="for requests that bring no deadline")
    group.add_argument("--worker-memory", type=int, metavar="MIB", help="most memory of one copy")


def _add_doors(group: Any) -> None:
    group.add_argument("--grpc-door", choices=("own", "aio"), default="own", help="aio: gRPC on the library grpc.aio")
    group.add_argument("--api-key-file", type=Path, metavar="FILE", help="keys, one a line; mode 600")
    group.add_argument("--insecure-no-auth", action="store_true", help="let everyone in who can reach the address")
    group.add_argument("--admin", action="store_true", help="allow loading and unloading by request")
    group.add_argument("--allowed-host", action="append", default=[], metavar="NAME", help="a name of this server")
    group.add_argument("--allowed-origin", action="append", default=[], metavar="URL", help="pages that may call")
    group.add_argument("--tls-cert", type=Path, metavar="FILE")
    group.add_argument("--tls-key", type=Path, metavar="FILE")
    group.add_argument("--tls-client-ca", type=Path, metavar="FILE", help="clients need a certificate of it")
    group.add_argument("--max-body-bytes", type=int, default=16 << 20, metavar="N")
    group.add_argument("--max-connections", type=int, default=1024, metavar="N")
    group.add_argument("--drain", type=float, default=30.0, metavar="S", help="time for requests in flight at the end")
    group.add_argument("--log-requests", type=float, default=0.0, metavar="SHARE", help="0 to 1: log a JSON line each")
    group.add_argument("--trace-to", metavar="URL", help="send spans to this collector, OTLP over HTTP")
    group.add_argument("--trace-share", type=float, metavar="SHARE", help="0 to 1: keep this share of new traces")


def _run(args: argparse.Namespace) -> int:
    try:
        from foretell.server.run import Server, run
    except ModuleNotFoundError as error:
        raise ConfigError(f'serve: {error.name} is not installed; pip install "foretell[serve]"') from None
    from foretell.server.logs import log_to_stderr
    from foretell.server.settings import ServerSettings
    from foretell.server.tracing import tracer_of

    log_to_stderr()
    settings = ServerSettings(
        host=args.host,
        http_port=None if args.no_http else args.http_port,
        grpc_port=None if args.no_grpc else args.grpc_port,
        grpc_door=args.grpc_door,
        api_key_file=args.api_key_file,
        insecure_no_auth=args.insecure_no_auth,
        admin=args.admin,
        allowed_hosts=tuple(args.allowed_host),
        allowed_origins=tuple(args.allowed_origin),
        tls_cert=args.tls_cert,
        tls_key=args.tls_key,
        tls_client_ca=args.tls_client_ca,
        max_body_bytes=args.max_body_bytes,
        max_connections=args.max_connections,
        drain_s=args.drain,
        log_requests=args.log_requests,
        trace_to=args.trace_to,
        trace_share=args.trace_share,
    )
    tracer = tracer_of(settings.trace_to, settings.trace_share)
    try:
        settled = run(lambda: Server(_engine(args), settings, tracer), args.paths, _tell)
    finally:
        if tracer is not None:
            tracer.close()
    return 0 if settled else 5


def _tell(line: str) -> None:
    sys.stderr.write(f"foretell: {line}\n")
    sys.stderr.flush()


def _engine(args: argparse.Namespace) -> Engine:
    from foretell.engine.engine import Engine
    from foretell.engine.limits import Limits

    given = {
        "instances": args.instances,
        "threads": args.threads,
        "max_batch_size": args.max_batch_size,
        "max_queue_rows": args.max_queue_rows,
        "default_timeout_s": args.default_timeout,
        "patience_s": args.default_timeout,
        "worker_memory_bytes": None if args.worker_memory is None else args.worker_memory << 20,
    }
    limits = Limits(**{name: value for name, value in given.items() if value is not None})
    return Engine(_start_instance(args.isolation), limits=limits, trust=args.trust)


def _start_instance(isolation: str | None) -> StartInstance:
    if isolation != "none":
        from foretell.engine.worker.start import best_transport, start_process_instance

        try:
            best_transport()
        except ConfigError:
            if isolation == "process":
                raise
        else:
            return start_process_instance
    from foretell.engine.worker.local import start_local_instance

    return start_local_instance
