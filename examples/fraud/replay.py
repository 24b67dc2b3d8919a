"""Serve the model and replay the last day against it: replay.py OUT [--rate N] [--deadline MS] [--payments N].

Starts `foretell serve`, sends the last day's payments in time order, one a request, N a second, and stops the
server. A payment that is not answered within the deadline goes through unchecked: a fraud among those is missed.
"""

import argparse
import gc
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from load import Answer, replay

NOT_FEATURES = ["Time", "Class", "xgboost"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--rate", type=float, default=1000.0, help="payments a second")
    parser.add_argument("--deadline", type=float, default=20.0, help="milliseconds")
    parser.add_argument("--payments", type=int, help="only so many")
    args = parser.parse_args()
    payments = pd.read_csv(args.out / "last_day.csv", nrows=args.payments)
    requests = as_requests(payments, args.deadline)
    server, port = serve(args.out / "fraud")
    print(
        f"replaying {len(payments):,} payments, {args.rate:,.0f} a second, deadline {args.deadline:g} ms ...",
        flush=True,
    )
    gc.disable()  # the sender's own pauses would count as the server's
    try:
        replay(port, requests[:500], args.rate)  # connections and caches, as a server that has been up for a while
        answers = replay(port, requests, args.rate)
    finally:
        server.terminate()
        if server.wait() != 0:
            sys.exit(f"foretell serve ended with exit code {server.returncode}")
    show_latency(answers, args.deadline)
    show_frauds(payments, answers, float((args.out / "threshold.txt").read_text()), args.deadline)


def as_requests(payments: pd.DataFrame, deadline_ms: float) -> list[bytes]:
    """Return a request for each payment: its columns by name, and how long its answer may take."""
    requests = []
    for row in payments.drop(columns=NOT_FEATURES).to_dict("records"):
        body = json.dumps({"instances": [row]})
        head = (
            "POST /v1/models/fraud:predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"x-request-timeout-ms: {deadline_ms:g}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        requests.append(f"{head}{body}".encode())
    return requests


def serve(bundle: Path) -> tuple[subprocess.Popen[str], int]:
    """Start a server on a free port; return it and the port once it is ready."""
    command = [sys.executable, "-m", "foretell.cli.main", "serve", bundle, "--http-port", "0", "--no-grpc"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    told = []
    for line in server.stderr:
        told.append(line)
        if found := re.search(r"http: http://127\.0\.0\.1:(\d+)", line):
            return server, int(found[1])
    sys.exit("".join(told))


def in_time(answer: Answer, deadline_ms: float) -> bool:
    return answer.status == 200 and answer.latency_s * 1e3 <= deadline_ms


def show_latency(answers: list[Answer], deadline_ms: float) -> None:
    answered = [a for a in answers if a.status == 200]
    good = sum(in_time(a, deadline_ms) for a in answers)
    refused = sum(a.status in (429, 503, 504) for a in answers)
    print(f"answered in time: {good:,} of {len(answers):,} ({good / len(answers):.3%})")
    print(f"late {len(answered) - good}, refused {refused}, failed {len(answers) - len(answered) - refused}")
    if not answered:
        sys.exit("no payment was answered")
    print(f"latency, from the instant each was to leave: {percentiles([a.latency_s * 1e3 for a in answered])}")
    inside = [float(re.search(rb"total;dur=([\d.]+)", a.head)[1]) for a in answered]
    print(f"of that in the engine and the model: {percentiles(inside)}")


def percentiles(values: list[float]) -> str:
    p50, p99, p999 = np.percentile(values, [50, 99, 99.9])
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, p99.9 {p999:.2f} ms, longest {max(values):.1f} ms"


def show_frauds(payments: pd.DataFrame, answers: list[Answer], threshold: float, deadline_ms: float) -> None:
    """Print what was caught and what it is worth, and whether the server answered as XGBoost does."""
    scores = np.array(
        [
            json.loads(a.body)["predictions"][0]["probabilities"]["fraud"] if in_time(a, deadline_ms) else np.nan
            for a in answers
        ]
    )
    fraud, amount = payments["Class"].to_numpy() == 1, payments["Amount"].to_numpy()
    alert = scores >= threshold
    caught, missed, false = alert & fraud, ~alert & fraud, alert & ~fraud
    unchecked = (missed & np.isnan(scores)).sum()
    print(f"threshold {threshold:.3f}, chosen on the first day: {alert.sum()} alerts")
    print(f"frauds caught: {caught.sum()} of {fraud.sum()}; {missed.sum()} missed, {unchecked} of them unchecked")
    print(f"false alarms: {false.sum()} among {(~fraud).sum():,} genuine payments")
    print(f"money saved: {amount[caught].sum():,.0f} of {amount[fraud].sum():,.0f} that was stolen")
    difference = np.nanmax(np.abs(scores - payments["xgboost"].to_numpy()))
    print(f"largest difference from XGBoost's own probabilities: {difference:.1e}")


if __name__ == "__main__":
    main()
