"""Python websockets: keeps the cookie of the 101, reads on, comes back after every end but three."""
import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake


async def main(url, count):
    cookie, asked, got = None, False, 0
    while True:
        headers = {"Cookie": cookie} if cookie else {}
        try:
            async with connect(url, additional_headers=headers) as socket:
                for value in socket.response.headers.get_all("Set-Cookie"):
                    cookie = value.split(";")[0]
                if not asked:
                    await socket.send(f"emit {count} 100")
                    asked = True
                async for text in socket:
                    print(text, flush=True)
        except (OSError, EOFError, ConnectionClosed, InvalidHandshake):
            pass
        else:
            if socket.close_code in (1000, 4100, 4101):
                return
        await asyncio.sleep(0.02)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
