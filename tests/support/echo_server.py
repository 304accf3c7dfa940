"""A web server that says what it was asked: it stands behind a pod's port in tests."""

from __future__ import annotations

from aiohttp import WSMsgType, web


async def start_echo() -> tuple[web.AppRunner, int]:
    """A running server and its port on 127.0.0.1; call the runner's `cleanup` in the same loop."""
    app = web.Application()
    app.router.add_get("/moved", _moved)
    app.router.add_get("/socket", _socket)
    app.router.add_get("/chunks", _chunks)
    app.router.add_route("*", "/{path:.*}", _echo)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, int(runner.addresses[0][1])


async def _echo(request: web.Request) -> web.Response:
    said = {
        "method": request.method,
        "path": request.rel_url.raw_path,
        "query": request.rel_url.raw_query_string,
        "headers": {name.lower(): value for name, value in request.headers.items()},
        "body": (await request.read()).decode("latin-1"),
    }
    return web.json_response(said, status=int(request.query.get("status", "200")))


async def _moved(request: web.Request) -> web.Response:
    raise web.HTTPFound(request.query.get("to", "/elsewhere?x=1"))


async def _chunks(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(100):
        await response.write(b"%02d" % number * 1000)
    return response


async def _socket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(protocols=("shout",))
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data.upper())
    return socket
