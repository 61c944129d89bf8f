"""Starts two servers and lets their people do everything together that two servers can.

    interop.py [--servers natterjack,synapse] [--jobs N] [--list] [NAME…]

A check runs once for each of the two as the home of its room; `join_by_id[synapse]` is the one at which Synapse is at home. A NAME is
any part of that. (tests/interop/run makes the environment and calls this.)
"""

import argparse
import concurrent.futures
import os
import pathlib
import shutil
import sys
import time
import traceback

import checks_encryption
import checks_joining
import checks_moderation
import checks_outage
import checks_queries
import checks_talking
import people
import servers
from registry import CHECKS

KINDS = {"natterjack": servers.Natterjack, "synapse": servers.Synapse}
HOSTS = ["localhost", "127.0.0.1"]
MODULES = [checks_joining, checks_talking, checks_moderation, checks_queries, checks_encryption, checks_outage]


def start_servers(kinds, directory):
    authority = servers.Authority(directory)
    labels = kinds if len(set(kinds)) == len(kinds) else [f"{kind}{number}" for number, kind in enumerate(kinds, 1)]
    started = []
    for label, kind, host in zip(labels, kinds, HOSTS):
        server = KINDS[kind](label, host, directory / label, authority)
        started.append(server)
        server.spawn()
    return started


def run_check(check, home, away):
    """Gives what went wrong, if anything did."""
    begin = time.monotonic()
    people.begin(check.seconds)
    try:
        check.run(home, away)
        failure = None
    except people.Failed as failed:
        failure = str(failed)
    except Exception:
        failure = traceback.format_exc()
    seconds = time.monotonic() - begin
    name = f"{check.name}[{home.label}]"
    print(f"ok      {name} ({seconds:.1f} s)" if failure is None else f"FAILED  {name} ({seconds:.1f} s): {failure}", flush=True)
    return None if failure is None else name


def chosen(names, pair):
    """Every check for each home, those that need the servers for themselves last."""
    first, second = pair
    runs = []
    for check in sorted(CHECKS, key=lambda check: check.alone):
        for home, away in [(first, second), (second, first)]:
            label = f"{check.name}[{home.label}]"
            if not names or any(name in label for name in names):
                runs.append((check, home, away))
    return runs


def run_all(runs, jobs):
    failed = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(run_check, *run) for run in runs if not run[0].alone]
        failed += [done.result() for done in waiting]
    failed += [run_check(*run) for run in runs if run[0].alone]
    return [name for name in failed if name]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--servers", default="natterjack,synapse")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    if options.list:
        for check in CHECKS:
            print(f"{check.name}: {check.run.__doc__.strip()}")
        return
    directory = pathlib.Path(os.environ["INTEROP_DIR"]).resolve() / "servers"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    started = []
    try:
        started = start_servers(options.servers.split(","), directory)
        for server in started:
            server.wait_until_it_answers()
            print(f"{server.label} is {server.name}, its clients are at {server.url}", flush=True)
        runs = chosen(options.names, started)
        failed = run_all(runs, options.jobs)
    finally:
        for server in started:
            server.stop()
    print(f"{len(runs) - len(failed)} passed, {len(failed)} failed; logs are in {directory}/*/output.log")
    for name in failed:
        print(f"  {name}")
    sys.exit(1 if failed or not runs else 0)


if __name__ == "__main__":
    main()
