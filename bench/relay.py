"""TCP between the gateway and an upstream: counts TLS handshakes that are under way, or cuts connections."""

import asyncio
import threading


class Relay:
    """Passes connections on to `target` on loopback, each handshake held back for `hold` seconds and each answer
    for `answer` seconds. A handshake is under way from the accepted connection until the client's second
    flight, with which TLS 1.3 ends for it. With no `target`, resets each connection after its first bytes."""

    def __init__(self, target: int | None, hold: float = 0.0, answer: float = 0.0):
        self.target, self.hold, self.answer = target, hold, answer
        self.port = self.accepted = self.under_way = self.most = 0
        self.loop, self.stop = asyncio.new_event_loop(), asyncio.Event()
        self.ready, self.thread = threading.Event(), threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        self.ready.wait(10)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(10)

    def run(self):
        self.loop.run_until_complete(self.serve())
        self.loop.close()

    async def serve(self):
        server = await asyncio.start_server(self.connection, "127.0.0.1", 0, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        await self.stop.wait()
        server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.accepted += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        handshake = Handshake(self)
        try:
            if self.target is None:
                await reader.read(65536)
                writer.transport.abort()
            else:
                await self.pass_on(reader, writer, handshake)
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            handshake.end()
            writer.close()

    async def pass_on(self, reader, writer, handshake):
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self.up(reader, far_writer, handshake))
                both.create_task(self.down(far_reader, writer, handshake))
        finally:
            far_writer.close()

    async def up(self, reader, writer, handshake):
        while data := await reader.read(65536):
            if handshake.answered:
                handshake.end()
            else:
                await asyncio.sleep(self.hold)
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    async def down(self, reader, writer, handshake):
        """Each piece goes on a time after it came, whatever was before it: a delay, not a brake."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        async with asyncio.TaskGroup() as both:
            both.create_task(self.later(pieces, writer))
            while data := await reader.read(65536):
                due = self.loop.time() + (self.answer if handshake.ended else 0.0)
                handshake.answered = True
                pieces.put_nowait((due, data))
            pieces.put_nowait((0.0, b""))

    async def later(self, pieces, writer):
        while True:
            due, data = await pieces.get()
            if not data:
                break
            await asyncio.sleep(due - self.loop.time())
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


class Handshake:
    """One handshake that the relay counts as under way until it ends."""

    def __init__(self, relay: Relay):
        self.relay, self.answered, self.ended = relay, False, False

    def end(self):
        if not self.ended:
            self.ended = True
            self.relay.under_way -= 1
