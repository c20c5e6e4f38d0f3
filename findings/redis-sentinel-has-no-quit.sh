#!/bin/bash
# Redis Sentinel 7.0.15 (Debian's package) does not know the command QUIT. It answers "unknown command", and the
# connection stays open: the next PING is answered. The server of the same version, which is the same program,
# answers QUIT with OK and closes the connection.
#
# Consequence: a client that ends its connections with QUIT and waits for the server to close them keeps each connection
# to a Sentinel open, and counts an error for each. Close the socket instead; the store of this repository does so.
#
# Seen on 2026-12-01. Exits with 1 if the behaviour has changed. Needs Debian's apt-get and dpkg; nothing is installed.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
version=$(apt-cache madison redis-sentinel | awk '$3 ~ /7\.0\.15/ { print $3; exit }')
[ -n "$version" ] || { echo "Debian's redis-sentinel 7.0.15 is not to be had here" >&2; exit 2; }
for package in redis-sentinel redis-server redis-tools; do
  apt-get download -q "$package=$version" >/dev/null
done
for package in *.deb; do dpkg -x "$package" .; done

# A port that nothing listens to. Another program may take it in between; then the start below fails.
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# Prints what a peer on this port says to QUIT and to a PING behind it, until it closes or is silent for 2 s.
asked() {
  exec 3<>"/dev/tcp/127.0.0.1/$1"
  printf 'QUIT\r\nPING\r\n' >&3
  timeout 2 cat <&3 | tr -d '\r' || true
  exec 3>&-
}

until_up() {
  for _ in $(seq 100); do
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
    sleep 0.1
  done
  echo "it does not start" >&2
  exit 2
}

server=$(free_port)
usr/bin/redis-server --port "$server" --bind 127.0.0.1 --save '' --dir "$folder" >/dev/null &
sentinel=$(free_port)
printf 'port %s\nbind 127.0.0.1\ndir %s\n' "$sentinel" "$folder" > sentinel.conf
usr/bin/redis-sentinel sentinel.conf >/dev/null &
until_up "$server"
until_up "$sentinel"

of_server=$(asked "$server")
of_sentinel=$(asked "$sentinel")
printf 'the server:   %s\nthe Sentinel: %s\n' "${of_server//$'\n'/ | }" "${of_sentinel//$'\n'/ | }"
if [ "$of_server" = "+OK" ] && [[ $of_sentinel == "-ERR unknown command 'QUIT'"*$'\n+PONG' ]]; then
  echo "as described"
else
  echo "CHANGED"
  exit 1
fi
