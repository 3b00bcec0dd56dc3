"""An application server for the tests: what browsers do that a file server cannot.

/ws      echoes every WebSocket message
/events  three server-sent events, each when the client has asked for it at /next
/upload  answers with the length and the SHA-256 of the body
/slow    a body whose first half comes at once, its second half after /next
"""

import asyncio
import hashlib
import sys

from aiohttp import WSMsgType, web

turns = asyncio.Semaphore(0)


async def echo(request):
    socket = web.WebSocketResponse(max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        if message.type == WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type == WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


async def go_on(_request):
    turns.release()
    return web.Response(text="go on\n")


async def events(request):
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number in range(3):
        await response.write(b"data: event %d\n\n" % number)
        await turns.acquire()
    return response


async def upload(request):
    digest, length = hashlib.sha256(), 0
    async for chunk in request.content.iter_any():
        digest.update(chunk)
        length += len(chunk)
    return web.Response(text=f"{length} {digest.hexdigest()}\n")


async def slow(request):
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"first half, ")
    await turns.acquire()
    await response.write(b"second half\n")
    return response


application = web.Application(client_max_size=0)
application.add_routes(
    [
        web.get("/ws", echo),
        web.get("/next", go_on),
        web.get("/events", events),
        web.post("/upload", upload),
        web.put("/upload", upload),
        web.get("/slow", slow),
    ]
)
web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), print=None)
