#!/usr/bin/env python3
"""Runs what docs/deploy and examples/dashboard/Dockerfile say, as far as that goes without systemd and without Docker.

* systemd itself checks the units, where it is installed.
* The dashboard is started on a listener that is handed over, as systemd does it, by the arguments of the service. It is
  stopped; a client connects while nothing runs; it is started again, and that client is answered. Its session is still there.
* `systemd-socket-activate` starts the dashboard at the first connection, where it is installed.
* The Dockerfile is parsed. What it copies from the workspace is there, and the program starts with its arguments.

Usage: deploys.py DASHBOARD, from the root of the workspace
"""

import atexit
import configparser
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dockerfile_parse import DockerfileParser

UNITS = Path("docs/deploy")
DOCKERFILE = Path("examples/dashboard/Dockerfile")
PATIENCE = 60


def unit(name):
    """A unit's sections. Names may be in capitals."""
    parser = configparser.ConfigParser(interpolation=None, delimiters="=", comment_prefixes="#", strict=True)
    parser.optionxform = str
    with open(UNITS / name, encoding="utf-8") as text:
        parser.read_file(text)
    return parser


def run(words, **how):
    """Starts a process, which ends with this script at the latest."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, **how)
    atexit.register(process.kill)
    return process


def start(dashboard, arguments, listener):
    """Starts the dashboard with the listener as systemd hands it over: descriptor 3, and two variables."""
    words = [dashboard, *arguments]
    # The number of the process is known when there is one: the shell becomes the dashboard.
    script = 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
    os.set_inheritable(listener.fileno(), True)

    def hand_over():
        os.dup2(listener.fileno(), 3)

    return run(["sh", "-c", script, "sh", *words], preexec_fn=hand_over, close_fds=False)


def get(connection, cookie=None):
    """Asks for the page. Returns the status, the identity cookie and the session's id."""
    connection.request("GET", "/", headers={"Cookie": cookie} if cookie else {"Accept": "text/html"})
    answer = connection.getresponse()
    session = re.search(r'id="session">([^<]+)<', answer.read().decode())
    given = answer.getheader("Set-Cookie")
    return answer.status, given.split(";")[0] if given else cookie, session and session[1]


def stop(process):
    process.send_signal(signal.SIGTERM)
    if process.wait(timeout=PATIENCE) != 0:
        sys.exit(f"the dashboard has ended with {process.returncode}")
    process.stdout.close()


def connect(port):
    return http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)


def restart_on_one_listener(dashboard, arguments):
    listener = socket.create_server(("127.0.0.1", 0), backlog=int(unit("dashboard.socket")["Socket"]["Backlog"]))
    port = listener.getsockname()[1]
    first = start(dashboard, arguments, listener)
    told = first.stdout.readline()
    if told.strip() != f"listening on http://127.0.0.1:{port}":
        sys.exit(f"the dashboard does not listen on what it is handed: {told}")
    status, cookie, before = get(connect(port))
    if status != 200 or not before:
        sys.exit(f"no page with a session: {status} {before}")
    # A session is kept once the cookie has come back.
    get(connect(port), cookie)
    stop(first)

    # Nothing runs. The connection is made all the same, and its request waits in the kernel.
    waiting = connect(port)
    waiting.connect()
    second = start(dashboard, arguments, listener)
    try:
        status, _, after = get(waiting, cookie)
        if status != 200:
            sys.exit(f"the client that came while nothing ran was answered {status}")
        if after != before:
            sys.exit(f"another session after the restart: {before}, {after}")
    finally:
        stop(second)
    listener.close()


def activate(dashboard, arguments):
    """The first connection starts the dashboard."""
    # The tool listens on a number alone. Nobody else takes it: the tool is told one that is free, and tries another.
    for _ in range(10):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", dashboard, *arguments]
        tool = run(words, stderr=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        while tool.poll() is None and time.monotonic() < end:
            try:
                status, _, _ = get(connect(port))
            except ConnectionRefusedError:
                time.sleep(0.05)
                continue
            if status != 200:
                sys.exit(f"systemd-socket-activate: {status}")
            stop(tool)
            return
        tool.kill()
        tool.wait()
    sys.exit("systemd-socket-activate starts no dashboard")


def dockerfile(dashboard, folder):
    parsed = DockerfileParser(path=str(DOCKERFILE))
    last = {it["instruction"]: it["value"] for it in parsed.structure}
    for it in parsed.structure:
        if it["instruction"] == "COPY" and "--from" not in it["value"]:
            source = it["value"].split()[0]
            if not Path(source).exists():
                sys.exit(f"{DOCKERFILE} copies {source}, which is not there")
    if last["USER"] in ("root", "0"):
        sys.exit(f"{DOCKERFILE} runs as root")
    program, arguments = json.loads(last["ENTRYPOINT"]), json.loads(last["CMD"])
    if program != [Path(dashboard).name]:
        sys.exit(f"{DOCKERFILE} runs another program: {program}")
    if f":{last['EXPOSE']}" not in " ".join(arguments):
        sys.exit(f"{DOCKERFILE} exposes another port than the program listens on")
    data = last["VOLUME"]
    words = [word.replace(f"0.0.0.0:{last['EXPOSE']}", "127.0.0.1:0").replace(data, folder) for word in arguments]
    process = run([dashboard, *words])
    address = process.stdout.readline().split("http://")[-1].strip()
    status, _, _ = get(connect(int(address.rsplit(":", 1)[1])))
    stop(process)
    if status != 200 or not Path(folder, "sessions.redb").exists():
        sys.exit(f"{DOCKERFILE}: its arguments start no dashboard that keeps sessions in its volume")


def main(dashboard):
    program, *arguments = shlex.split(unit("dashboard.service")["Service"]["ExecStart"])
    if Path(program).name != Path(dashboard).name:
        sys.exit(f"the service runs another program: {program}")
    kept = "/var/lib/" + unit("dashboard.service")["Service"]["StateDirectory"]
    if not any(word.startswith(kept) for word in arguments):
        sys.exit(f"the service keeps nothing in its state folder, {kept}")
    left_out = []
    with tempfile.TemporaryDirectory() as folder:
        here = [word.replace(kept, folder) for word in arguments]
        if shutil.which("systemd-analyze"):
            # It wants the program where the unit names it.
            for name in ("dashboard.socket", "dashboard.service"):
                text = (UNITS / name).read_text(encoding="utf-8").replace(program, os.path.abspath(dashboard))
                Path(folder, name).write_text(text, encoding="utf-8")
            checked = subprocess.run(
                ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(Path(folder, "dashboard.socket")),
                 str(Path(folder, "dashboard.service"))],
                capture_output=True, text=True,
            )  # fmt: skip
            if checked.returncode != 0 or checked.stderr:
                sys.exit(f"systemd does not like the units:\n{checked.stderr}")
        else:
            left_out.append("systemd's own check of the units")
        restart_on_one_listener(dashboard, here)
        if shutil.which("systemd-socket-activate"):
            activate(dashboard, here)
        else:
            left_out.append("systemd-socket-activate")
    with tempfile.TemporaryDirectory() as folder:
        dockerfile(dashboard, folder)
    print("docs/deploy and the Dockerfile: what they say runs; no image is built, no systemd runs it")
    for it in left_out:
        print(f"left out: {it}: systemd is not installed")


if len(sys.argv) != 2:
    sys.exit(__doc__)
main(sys.argv[1])
