"""Encryption, with matrix-js-sdk and its Rust crypto. Skipped where node or the SDK is missing; `make test-clients` installs it."""

import os
import pathlib
import shutil
import subprocess

from registry import check

SECONDS = 240


@check(seconds=SECONDS, alone=True)
def encrypted(home, away):
    """Two users and their devices talk in secret, verify each other, and restore a backup of their keys."""
    clients = pathlib.Path(os.environ.get("CLIENTS_DIR", pathlib.Path.home() / ".cache/natterjack/clients")) / "js"
    if not shutil.which("node") or not (clients / "node_modules/matrix-js-sdk").exists():
        print("skipped encrypted: matrix-js-sdk is not installed", flush=True)
        return
    script = pathlib.Path(__file__).resolve().parent.parent / "clients/encrypted.mjs"
    shutil.copy(script, clients)
    done = subprocess.run(["node", "encrypted.mjs", home.url, away.url], cwd=clients, capture_output=True, text=True,
                          timeout=SECONDS)
    if done.returncode:
        raise AssertionError(done.stdout + done.stderr)
