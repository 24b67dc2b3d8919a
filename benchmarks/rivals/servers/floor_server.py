"""No server: a constant reply to whatever httptools has read whole. What any Python server has below it. PORT."""

import asyncio
import os

import httptools
import uvloop

BODY = b'{"outputs":[{"name":"probabilities","shape":[1,2],"datatype":"FP32","data":[0.5,0.5]}]}'
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)


class Floor(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.parser = transport, httptools.HttpRequestParser(self)

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_message_complete(self):
        self.transport.write(REPLY)


async def main():
    server = await asyncio.get_running_loop().create_server(Floor, "127.0.0.1", int(os.environ["PORT"]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
