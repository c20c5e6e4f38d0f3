#!/usr/bin/env python3
"""Checks what can be checked of examples/dashboard/compose.yaml without Docker.

The commands of its services are run here, with other addresses: the installed redis-server must take the arguments, the
health check must succeed, and the dashboard must serve a page with its sessions there. The images, the volumes and
the network between the two are not run.

The dashboard's command is `cargo run -p dashboard -- …`. Where the environment variable DASHBOARD names a dashboard that
is built already, that is run instead, with the same arguments: cargo would build it once more, with the features that
this package alone asks for. `tests/features.sh` checks that it builds so.

Usage: compose.py FILE, from the root of the workspace
"""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from ruamel.yaml import YAML

PATIENCE = 600


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, check):
    end = time.monotonic() + PATIENCE
    while True:
        try:
            if check():
                return
        except OSError:
            pass
        if time.monotonic() > end:
            sys.exit(f"{what}: not within {PATIENCE} s")
        time.sleep(0.1)


def replaced(words, changes):
    """The words with each change made; each must be of use."""
    for old, new in changes.items():
        changed = [word.replace(old, new) for word in words]
        if changed == words:
            sys.exit(f"the command does not have {old}: {words}")
        words = changed
    return words


def dashboard_command(command):
    """The command's words, with the built dashboard in place of cargo."""
    words = shlex.split(command)
    cargo, separator, arguments = words[:4], words[4:5], words[5:]
    if (cargo, separator) != (["cargo", "run", "-p", "dashboard"], ["--"]):
        sys.exit(f"the dashboard is not run by cargo run -p dashboard --: {command}")
    built = os.environ.get("DASHBOARD")
    if not built:
        return words
    # What cargo would have found out.
    metadata = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version", "1"], capture_output=True, text=True, check=True
    )
    (package,) = [it for it in json.loads(metadata.stdout)["packages"] if it["name"] == "dashboard"]
    programs = [target["name"] for target in package["targets"] if "bin" in target["kind"]]
    if programs != ["dashboard"] and package["default_run"] != "dashboard":
        sys.exit(f"cargo run -p dashboard does not say which of these to run: {programs}")
    return [built] + arguments


def answers(page):
    with urllib.request.urlopen(page, timeout=5) as answer:
        return answer.status == 200


def main(file):
    with open(file, encoding="utf-8") as text:
        services = YAML(typ="safe").load(text)["services"]
    redis, dashboard = services["redis"], services["dashboard"]

    folder = os.path.dirname(file)
    source = [volume.rsplit(":", 1) for volume in dashboard["volumes"]]
    workspace = next(host for host, inside in source if inside == dashboard["working_dir"])
    if not os.path.samefile(os.path.join(folder, workspace), "."):
        sys.exit(f"{workspace} is not the root of the workspace")
    (published,) = dashboard["ports"]
    inside = published.rsplit(":", 1)[1]
    if dashboard["depends_on"]["redis"]["condition"] != "service_healthy":
        sys.exit("the dashboard does not wait for the health check")

    port, page_port = free_port(), free_port()
    running = []
    with tempfile.TemporaryDirectory() as data:
        try:
            server = redis["command"] + ["--port", str(port), "--bind", "127.0.0.1", "--dir", data]
            running.append(subprocess.Popen(server, stdout=subprocess.DEVNULL))
            kind, *check = redis["healthcheck"]["test"]
            if kind != "CMD":
                sys.exit(f"a health check of this kind is not run: {kind}")
            check = check[:1] + ["-p", str(port)] + check[1:]
            until("the health check", lambda: subprocess.run(check, stdout=subprocess.DEVNULL).returncode == 0)
            command = replaced(
                dashboard_command(dashboard["command"]),
                {f"0.0.0.0:{inside}": f"127.0.0.1:{page_port}", "redis://redis:6379": f"redis://127.0.0.1:{port}"},
            )
            running.append(subprocess.Popen(command, start_new_session=True))
            page = f"http://127.0.0.1:{page_port}/"
            until("the dashboard's page", lambda: running[-1].poll() is not None or answers(page))
            if running[-1].poll() is not None:
                sys.exit(f"the dashboard has ended with {running[-1].returncode}")
            keys = subprocess.run(["redis-cli", "-p", str(port), "dbsize"], capture_output=True, text=True, check=True)
            if int(keys.stdout) == 0:
                sys.exit("the dashboard has put nothing into Redis")
        finally:
            if len(running) == 2 and running[1].poll() is None:
                # cargo and what it has started.
                os.killpg(running[1].pid, signal.SIGKILL)
            for process in running:
                process.kill()
                process.wait()
    print(f"{file}: its commands run; its images, volumes and network are not run here")


if len(sys.argv) != 2:
    sys.exit(__doc__)
main(sys.argv[1])
