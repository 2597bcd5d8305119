"""The real program, started as the service manager would start it, and somebody who sends it webhooks."""

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import time

PATH = "/belvo/webhooks"
LINK = "16f68516-bcbc-4cf7-b815-c500d4204e28"
KEYS = ("secret-id", "secret-password")
# How long anything may take before we give up on it. The machines are shared and slow at times.
PATIENCE = 30


class NotServing(Exception):
    """The program ended, or was not ready in time; the text has the end of its log."""


class Place:
    """A directory with the program's configuration; the state directory is somewhere else."""

    def __init__(self, directory, program, state, port, belvo=None, tls=False, more=""):
        self.directory, self.program, self.state, self.port, self.tls = directory, program, state, port, tls
        self.log = os.path.join(directory, "log")
        os.makedirs(directory, exist_ok=True)
        lines = ['environment = "sandbox"', f'state-directory = "{state}"']
        lines += ["[listen]", f'address = ["127.0.0.1:{port}"]', 'allow = ["127.0.0.0/8"]']
        lines += ["[tls]", *(self._identity() if tls else ['mode = "off"'])]
        if belvo:
            id_file, password_file = (self._secret(f"key-{n}", key) for n, key in enumerate(KEYS))
            lines += ["[api]", f'base-url = "{belvo}"', f'secret-id-file = "{id_file}"']
            lines += [f'secret-password-file = "{password_file}"', "requests-per-second = 1000", "burst = 10000"]
        self.config = self._secret("config.toml", "\n".join([*lines, more]))

    def _secret(self, name, text):
        path = os.path.join(self.directory, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text + "\n")
        return path

    def _identity(self):
        certificate, key = (os.path.join(self.directory, name) for name in ("certificate.pem", "key.pem"))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            + ["-subj", "/CN=localhost", "-days", "90", "-keyout", key, "-out", certificate],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        os.chmod(key, 0o600)
        return ['mode = "files"', f'certificate = "{certificate}"', f'key = "{key}"']

    def tail(self):
        """The end of the program's log."""
        with open(self.log, errors="replace") as file:
            return "".join(file.readlines()[-5:])


class Gateway:
    """The program while it runs. `under` are the words of a command that runs it, and `environment` its variables."""

    def __init__(self, place, under=(), environment=None):
        self.place = place
        notify = os.path.join(place.directory, "notify")
        if os.path.exists(notify):
            os.unlink(notify)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(notify)
        self.notify.settimeout(0.05)
        with open(place.log, "a") as log:
            self.process = subprocess.Popen(
                [*under, place.program, "serve", "--config", place.config],
                env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": notify, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def ready(self):
        """Waits until it serves."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if b"READY=1" in self.notify.recv(4096):
                    return self
            except TimeoutError:
                if self.process.poll() is not None:
                    break
        status = self.kill()
        raise NotServing(f"not ready, exit status {status}: {self.place.tail()}")

    def kill(self):
        """SIGKILL; what it ended with."""
        self.process.kill()
        return self._gone()

    def stop(self):
        """SIGTERM, as the service manager stops it."""
        self.process.terminate()
        return self._gone()

    def _gone(self):
        status = self.process.wait(PATIENCE)
        self.notify.close()
        return status

    def __enter__(self):
        return self.ready()

    def __exit__(self, *_):
        if self.process.returncode is None:
            self.kill()


class Sender:
    """A kept connection; it is made again when it broke."""

    def __init__(self, place, timeout=PATIENCE):
        if place.tls:
            trusting = ssl.create_default_context()
            trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
            self.connection = http.client.HTTPSConnection("127.0.0.1", place.port, timeout=timeout, context=trusting)
        else:
            self.connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=timeout)

    def send(self, body):
        """The status of the answer, or None when there was none."""
        try:
            self.connection.request("POST", PATH, body, {"Content-Type": "application/json"})
            answer = self.connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            self.connection.close()
            return None

    def close(self):
        self.connection.close()


def webhook(name, pad=200, link=LINK):
    """A webhook that differs from all others by its name."""
    said = {
        "webhook_id": name,
        "webhook_type": "TRANSACTIONS",
        "webhook_code": "historical_update",
        "process_type": "historical_update",
        "link_id": link,
        "request_id": "4363b08b-51eb-4350-9c74-5df5ac92a7f6",
        "data": {"pad": "x" * pad},
    }
    return json.dumps(said).encode()


def published(directory):
    """The payloads that Belvo publishes, each with a name of its own."""
    for name in sorted(os.listdir(directory)):
        with open(os.path.join(directory, name)) as file:
            yield re.sub(r'("webhook_id": *)"[^"]*"', rf'\1"{name}"', file.read()).encode()
