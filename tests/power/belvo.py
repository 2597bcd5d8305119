"""A stand-in for the lists of Belvo's API: each link has the same number of objects in every list."""

import http.server
import json
import threading
import urllib.parse
import uuid


# Less than Belvo's, so that a list has several pages.
PAGE_MAX = 250


class Belvo:
    """Serves lists until the program ends."""

    def __init__(self, objects, pad=600):
        self.objects, self.pad = objects, pad
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                url = urllib.parse.urlsplit(self.path)
                answer = json.dumps(outer.page(url.path, dict(urllib.parse.parse_qsl(url.query)))).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                """The other side was killed in the middle of something."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def page(self, path, asked):
        """One page of a list, as Belvo wraps it."""
        number, size = int(asked.get("page", 1)), min(int(asked.get("page_size", 100)), PAGE_MAX)
        numbers = range(self.objects)[(number - 1) * size : number * size]
        link = asked.get("link", "")
        more = number * size < self.objects
        return {
            "count": self.objects,
            "next": f"{self.url}{path}?page={number + 1}" if more else None,
            "previous": None,
            "results": [self.object(path, link, number) for number in numbers],
        }

    def object(self, path, link, number):
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{path} {link} {number}")),
            "link": link,
            "account": {"link": link},
            "created_at": "2026-01-01T00:00:00Z",
            "value_date": "2026-01-01",
            "amount": number,
            "description": "x" * self.pad,
        }

    def close(self):
        self.server.shutdown()
        self.server.server_close()
