"""A runtime's socket, spoken to by the gateway's own links."""

import asyncio

from gyral.kit.frames import FrameReader, Kind, batch_of, packed


class Peer:
    """A runtime that speaks the protocol and does as the test says; it answers x with x."""

    def __init__(self, path):
        self.path = path
        self.batches = []
        self.server = None
        self.connections = {}
        self.answer = self.echo
        self.met = asyncio.Event()
        self.asked = asyncio.Event()

    @staticmethod
    def echo(batch):
        cells = b"".join(bytes(rows.columns[0]) for rows in batch.requests)
        return Kind.PROBABILITIES, cells

    async def start(self):
        self.server = await asyncio.start_unix_server(self._serve, self.path)

    async def kill(self):
        assert self.server is not None
        self.server.close()
        for writer in self.connections.values():
            writer.transport.abort()
        await asyncio.gather(*self.connections)
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader, writer):
        self.connections[asyncio.current_task()] = writer
        self.met.set()
        frames = FrameReader()
        while data := await self._read(reader):
            for frame in frames.feed(data):
                batch = batch_of(frame)
                self.batches.append([rows.count for rows in batch.requests])
                self.asked.set()
                answer = self.answer(batch)
                if answer is None:
                    writer.transport.abort()
                elif answer != "silence":
                    writer.write(packed(frame.batch_id, *answer))
        writer.close()

    async def _read(self, reader):
        try:
            return await reader.read(1 << 16)
        except ConnectionError:
            return b""
