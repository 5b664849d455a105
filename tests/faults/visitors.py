"""Many clients of the API in a process of their own: VISITORS PORT CLIENTS PERIOD_S SLOW.

Each client asks for the status, the picture and events in turn, once a period. SLOW more ask for pictures and never
read. Goes on until its standard input is closed; then prints how many answers came, by status.
"""

import asyncio
import json
import socket
import sys
from collections import Counter

PATHS = ("/api/status", "/api/live.png", "/api/events?after=0&limit=100", "/", "/healthz")


async def visit(port: int, number: int, period_s: float, answers: Counter[str]) -> None:
    """One client, which keeps its connection as a browser does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for turn in range(number, 1_000_000):
            writer.write(f"GET {PATHS[turn % len(PATHS)]} HTTP/1.1\r\nHost: box1\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = next((line for line in head.split("\r\n") if line.startswith("content-length:")), ":0")
            await reader.readexactly(int(length.partition(":")[2]))
            answers[head.split()[1]] += 1
            await asyncio.sleep(period_s)
    except (ConnectionError, asyncio.IncompleteReadError):
        answers["hung up"] += 1
    finally:
        writer.close()


async def stare(port: int) -> None:
    """One viewer who asks for picture after picture and takes none."""
    viewer = socket.socket()
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    viewer.setblocking(False)
    loop = asyncio.get_running_loop()
    with viewer:
        await loop.sock_connect(viewer, ("127.0.0.1", port))
        try:
            while True:
                await loop.sock_sendall(viewer, b"GET /api/live.png HTTP/1.1\r\nHost: box1\r\n\r\n")
                await asyncio.sleep(0.2)
        except OSError:
            return


async def main(port: int, clients: int, period_s: float, slow: int) -> None:
    """All of them."""
    answers: Counter[str] = Counter()
    tasks = [asyncio.create_task(visit(port, number, period_s, answers)) for number in range(clients)]
    tasks += [asyncio.create_task(stare(port)) for _ in range(slow)]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    sys.stdout.write(json.dumps(answers) + "\n")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
