"""Belvo's side: webhooks from Belvo's own addresses over TLS, on connections of their own and on kept ones."""

import http.client
import itertools
import json
import ssl
import threading
import time

from box import ADDRESS, BELVO

PORT = 8443
LINK = "16f68516-bcbc-4cf7-b815-c500d4204e28"
AUTHORIZATION = "Bearer 5f1d3c2b"
# Belvo gives up after this; who is answered later was refused.
IN_TIME = 5


class Belvo:
    """Sends webhooks and keeps what became of each."""

    def __init__(self, ca_file):
        self.trusting = ssl.create_default_context(cafile=ca_file)
        self.numbers = itertools.count(1)
        # Names of those answered 200, and a sentence for each that was not.
        self.answered, self.refused, self.slowest = [], [], 0.0

    def connect(self, source=BELVO[0], timeout=2 * IN_TIME):
        """A connection from one of Belvo's addresses; opened with the first request."""
        connection = http.client.HTTPSConnection(
            ADDRESS, PORT, timeout=timeout, context=self.trusting, source_address=(source, 0)
        )
        return connection

    def send(self, connection, close, authorization=AUTHORIZATION):
        """One webhook; its status. What is no 200 in time is remembered as refused."""
        name = f"webhook-{next(self.numbers)}"
        headers = {"Content-Type": "application/json", "Authorization": authorization}
        headers["Connection"] = "close" if close else "keep-alive"
        fresh, began = connection.sock is None, time.monotonic()
        try:
            connection.request("POST", "/belvo/webhooks", webhook(name), headers)
            answer = connection.getresponse()
            answer.read()
            status, why = answer.status, f"answered {answer.status}"
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            status, why = None, f"{type(error).__name__}: {error}"
        took = time.monotonic() - began
        self.slowest = max(self.slowest, took)
        if status == 200:
            self.answered.append(name)
            if took > IN_TIME:
                self.refused.append(f"{name}: answered only after {took:.1f} s")
        else:
            self.refused.append(f"{name}, on a {'new' if fresh else 'kept'} connection, after {took:.2f} s: {why}")
        return status

    def one(self, **options):
        """One webhook on a connection of its own; its status, which is for the caller to judge."""
        before = len(self.refused)
        timeout = options.pop("timeout", 2 * IN_TIME)
        status = self.send(self.connect(options.pop("source", BELVO[0]), timeout), True, **options)
        del self.refused[before:]
        return status


def webhook(name):
    """A webhook that differs from all others by its name."""
    said = {
        "webhook_id": name,
        "webhook_type": "TRANSACTIONS",
        "webhook_code": "historical_update",
        "process_type": "historical_update",
        "link_id": LINK,
        "data": {"total_transactions": 2},
    }
    return json.dumps(said).encode()


class Load:
    """Four senders, of which two keep their connections, while something is done to the gateway."""

    SENDERS = 4
    # Two hundred a second at most, from all: more than Belvo ever sent, and less than fills a small machine.
    PAUSE = 0.02

    def __init__(self, belvo):
        self.belvo, self.over = belvo, threading.Event()
        self.before = len(belvo.answered), len(belvo.refused)
        self.senders = [threading.Thread(target=self._sends, args=(n,)) for n in range(self.SENDERS)]

    def _sends(self, number):
        source, keeps = BELVO[number % len(BELVO)], number % 2 == 0
        connection = self.belvo.connect(source)
        while not self.over.wait(self.PAUSE):
            self.belvo.send(connection, close=not keeps)
        connection.close()

    def answered(self):
        """How many were answered 200 so far."""
        return len(self.belvo.answered) - self.before[0]

    def refused(self):
        """Those that were not."""
        return self.belvo.refused[self.before[1] :]

    def until_more(self, count):
        """Waits until so many more were answered, or one was not."""
        goal = self.answered() + count
        deadline = time.monotonic() + 60
        while self.answered() < goal and time.monotonic() < deadline:
            time.sleep(0.01)

    def __enter__(self):
        for sender in self.senders:
            sender.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for sender in self.senders:
            sender.join()
