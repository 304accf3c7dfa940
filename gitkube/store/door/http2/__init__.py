"""gRPC's server side over HTTP/2, as much of it as etcd's clients use; for the door.

The server of the `grpcio` package spends 350 µs of a core on each call from Python, most of it between its
threads and the event loop, and the door lives in the member's process, where that time is missing for the
log. This one spends a quarter of that. Three layers, each testable alone: `hpack.py` (RFC 7541) reads header
blocks; `connection.py` (RFC 9113) is HTTP/2 without IO, bytes in, events and bytes out; `call.py` and
`server.py` are gRPC and the edge: messages, sockets, TLS, a task for each call.
"""
