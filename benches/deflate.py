#!/usr/bin/env python3
"""Measures what permessage-deflate (RFC 7692) would cost a connection: memory that it keeps, and CPU time for each message.

It uses zlib as servers do: one compressor and one decompressor for each connection, level 6. The messages are JSON, cut
at a length. docs/decisions.md has the results. Python 3 on Linux, no packages.
"""

import json
import multiprocessing
import random
import time
import zlib

CONNECTIONS = 500
MESSAGES = 400
LEVEL = 6


def resident_kb():
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def message(length):
    rows = []
    while len(json.dumps(rows)) < length:
        name = random.choice(["solar", "wind", "rail", "water"])
        value = round(random.random() * 100, 2)
        rows.append({"id": random.randrange(10**6), "name": name, "value": value, "ok": True})
    return json.dumps(rows)[:length].encode()


def compressor(window, memory):
    return zlib.compressobj(LEVEL, zlib.DEFLATED, -window, memory)


def compressed(by, data):
    """One message. The sender leaves out the last four bytes of the flush."""
    return by.compress(data) + by.flush(zlib.Z_SYNC_FLUSH)


def memory(window, level):
    burst = [message(1024) for _ in range(100)]
    before, connections = resident_kb(), []
    for _ in range(CONNECTIONS):
        sender, receiver = compressor(window, level), zlib.decompressobj(-window)
        for data in burst:
            assert receiver.decompress(compressed(sender, data)) == data
        connections.append((sender, receiver))
    kept = (resident_kb() - before) / CONNECTIONS
    print(f"window of 2^{window}, memory level {level}: {kept:.1f} KB for each connection")


def time_and_size():
    for length in [64, 256, 1024, 16384]:
        messages = [message(length) for _ in range(MESSAGES)]
        for context in ["kept", "anew"]:
            sender, size = compressor(15, 8), 0
            begin = time.process_time()
            for data in messages:
                if context == "anew":
                    sender = compressor(15, 8)
                size += len(compressed(sender, data)) - 4
            each = (time.process_time() - begin) / MESSAGES * 1e6
            part = size / MESSAGES / length
            print(f"{length:6} B, context {context}: {each:6.1f} us, {part:.0%} of the size")


if __name__ == "__main__":
    random.seed(1)
    print(f"zlib {zlib.ZLIB_RUNTIME_VERSION}", flush=True)
    for setting in [(15, 8), (12, 5), (9, 1)]:
        # In a process of its own: what another measurement has freed would be used again.
        process = multiprocessing.Process(target=memory, args=setting)
        process.start()
        process.join()
    time_and_size()
