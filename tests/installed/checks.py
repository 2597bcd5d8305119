"""What is done to an installed gateway, one function each, and what must hold; each returns its figures as a sentence."""

import json
import os
import sqlite3
import time

from belvo import AUTHORIZATION, BELVO, LINK, Belvo, Load
from box import Failed, run, until

CHECKS = (
    "install webhook credentials encrypted journal restarts upgrades failed hang reboot by_itself remove".split()
)
PROGRAM = "usr/bin/belvo-gateway"
STATE = "var/lib/belvo-gateway"
SOURCES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

CONFIGURATION = """environment = "sandbox"
state-directory = "/var/lib/belvo-gateway"
[listen]
address = ["0.0.0.0:8443"]
[tls]
mode = "files"
certificate = "/etc/belvo-gateway/tls/fullchain.pem"
"""


class Checks:
    """The checks, in the order of CHECKS, on one box."""

    def __init__(self, box, options, work):
        self.box, self.options = box, options
        self.is_package = options.program.endswith(".deb")
        self.certificate, self.key = (os.path.join(work, name) for name in ("certificate.pem", "key.pem"))
        run(
            *"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90".split(),
            *f"-subj /CN=box -addext subjectAltName=IP:192.0.2.10 -keyout {self.key} -out {self.certificate}".split(),
        )
        self.belvo = Belvo(self.certificate)

    def log(self):
        """The end of the service's log."""
        return self.box.does("journalctl -u belvo-gateway -u belvo-gateway.socket -n 20 --no-pager", may_fail=True)

    # ---- What is checked ---------------------------------------------------------------------------------------------

    def install(self):
        """From nothing to a service that runs, as deploy/README.md says."""
        box = self.box
        began = time.monotonic()
        if self.is_package:
            self._put(self.options.other)
        else:
            box.does(
                "useradd --system --user-group --home-dir /var/lib/belvo-gateway --no-create-home"
                " --shell /usr/sbin/nologin belvo-gateway"
            )
            self._put(self.options.other)
            for name in ("belvo-gateway.service", "belvo-gateway.socket"):
                box.put(os.path.join(SOURCES, "systemd", name), f"etc/systemd/system/{name}", 0o644)
        box.write("etc/belvo-gateway/config.toml", CONFIGURATION)
        box.put(self.certificate, "etc/belvo-gateway/tls/fullchain.pem", 0o644)
        box.does("install -d -m 0700 /etc/credstore")
        box.put(self.key, "etc/credstore/belvo-gateway.tls-key", 0o600)
        box.write("etc/credstore/belvo-gateway.webhook-authorization", AUTHORIZATION + "\n", 0o600)
        box.does("systemctl daemon-reload && systemctl enable --now belvo-gateway && systemctl restart belvo-gateway")
        took = time.monotonic() - began
        for unit in ("belvo-gateway.service", "belvo-gateway.socket"):
            for state in ("is-active", "is-enabled"):
                box.does(f"systemctl {state} {unit}")
        if "handed over by the service manager" not in self.log():
            raise Failed("the gateway does not serve the socket of belvo-gateway.socket")
        self._nothing_wrong_with_the_units()
        return f"serving {took:.1f} s after the first command, on the socket of systemd {self._systemd()}"

    def webhook(self):
        """Who may speak is decided by the address and by the value."""
        for source in BELVO:
            if (status := self.belvo.one(source=source)) != 200:
                raise Failed(f"from {source}: {status}; {self.belvo.refused}")
        if (status := self.belvo.one(authorization="Bearer other")) != 401:
            raise Failed(f"with a wrong Authorization: {status}")
        # The drift alarm looks at a few, and answers those.
        if (status := self.belvo.one(source="198.51.100.7")) not in (None, 403):
            raise Failed(f"from a stranger's address: {status}")
        self._none_lost()
        return "200 over TLS from Belvo's three addresses, 401 with a wrong Authorization, a stranger turned away"

    def credentials(self):
        """A changed credential holds after a restart, and only the service sees it."""
        box, name = self.box, "etc/credstore/belvo-gateway.webhook-authorization"
        box.write(name, "Bearer changed\n", 0o600)
        box.does("systemctl restart belvo-gateway")
        statuses = [self.belvo.one(authorization=value) for value in ("Bearer changed", AUTHORIZATION)]
        box.write(name, AUTHORIZATION + "\n", 0o600)
        box.does("systemctl restart belvo-gateway")
        statuses.append(self.belvo.one())
        if statuses != [200, 401, 200]:
            raise Failed(f"after each change: {statuses} and not 200, 401, 200")
        return "LoadCredential=: a changed file in /etc/credstore holds after a restart"

    def encrypted(self):
        """The recipe of deploy/README.md for encrypted credentials."""
        box, drop_in = self.box, "etc/systemd/system/belvo-gateway.service.d/encrypted.conf"
        box.does(
            "install -d -m 0700 /etc/credstore.encrypted && systemd-creds encrypt --name=webhook-authorization - "
            "/etc/credstore.encrypted/belvo-gateway.webhook-authorization",
            stdin="Bearer encrypted\n",
        )
        line = "LoadCredentialEncrypted=webhook-authorization:belvo-gateway.webhook-authorization"
        box.does("mv /etc/credstore/belvo-gateway.webhook-authorization /root/")
        box.write(drop_in, f"[Service]\n{line}\n")
        box.does("systemctl daemon-reload && systemctl restart belvo-gateway")
        statuses = [self.belvo.one(authorization=value) for value in ("Bearer encrypted", AUTHORIZATION)]
        box.does(f"rm /{drop_in} /etc/credstore.encrypted/belvo-gateway.webhook-authorization")
        box.does("mv /root/belvo-gateway.webhook-authorization /etc/credstore/")
        box.does("systemctl daemon-reload && systemctl restart belvo-gateway")
        statuses.append(self.belvo.one())
        if statuses != [200, 401, 200]:
            raise Failed(f"encrypted, with the old value, and after all is as before: {statuses}")
        return "LoadCredentialEncrypted=: 200 with the encrypted value, 401 with the one in clear"

    def journal(self):
        """The log can be asked for a link."""
        entries = self._entries(f"BELVO_LINK_ID={LINK}")
        if not entries:
            raise Failed("journalctl -u belvo-gateway BELVO_LINK_ID=... finds nothing")
        fields = sorted({field for entry in entries for field in entry if field.startswith("BELVO_")})
        return f"journalctl -u belvo-gateway BELVO_LINK_ID=...: {len(entries)} entries, with {', '.join(fields)}"

    def restarts(self):
        """Started again and again under load."""
        count, requests = (4, 200) if self.options.reduced else (20, 2_000)
        with Load(self.belvo) as load:
            for _ in range(count):
                load.until_more(requests // count)
                self.box.does("systemctl restart belvo-gateway")
            load.until_more(20)
        return f"{count} restarts, {self._all_answered(load)}"

    def upgrades(self):
        """From one program to the other and back, under load."""
        ways = [self.options.program] if self.options.reduced else [self.options.program, self.options.other]
        requests = 50 if self.options.reduced else 300
        with Load(self.belvo) as load:
            for path in ways:
                load.until_more(requests)
                self._put(path)
                self.box.does("systemctl restart belvo-gateway")
                load.until_more(requests)
        self._put(self.options.program)
        self.box.does("systemctl restart belvo-gateway")
        return f"{len(ways)} upgrades, {self._all_answered(load)}"

    def failed(self):
        """A program that ends at once is put in place and found out; the one before comes back."""
        good = os.path.join(os.path.dirname(self.certificate), "good")
        run("cp", self.box.path(PROGRAM), good)
        requests = 50 if self.options.reduced else 300
        with Load(self.belvo) as load:
            load.until_more(requests)
            self.box.write(f"{PROGRAM}.new", "#!/bin/sh\nexit 1\n", 0o755)
            self.box.does(f"mv /{PROGRAM}.new /{PROGRAM}")
            began = time.monotonic()
            said = self.box.does("systemctl restart belvo-gateway || echo it does not start", may_fail=True)
            if "it does not start" not in said:
                raise Failed(f"systemctl restart says nothing about a program that ends at once: {said}")
            self.box.put(good, PROGRAM)
            self.box.does("systemctl restart belvo-gateway")
            took = time.monotonic() - began
            load.until_more(requests)
        return f"a failed upgrade rolled back in {took:.1f} s, {self._all_answered(load)}"

    def hang(self):
        """A stopped process is found out by the watchdog, and what waits meanwhile is answered by the next."""
        drop_in = "etc/systemd/system/belvo-gateway.service.d/watchdog.conf"
        if self.options.reduced:
            self.box.write(drop_in, "[Service]\nWatchdogSec=6s\n")
            self.box.does("systemctl daemon-reload && systemctl restart belvo-gateway")
        limit = int(self._property("WatchdogUSec").rstrip("smin"))
        before = self._property("MainPID")
        began = time.monotonic()
        self.box.does(f"kill -STOP {before}")
        status = self.belvo.one(timeout=limit + 10)
        took, after = time.monotonic() - began, self._property("MainPID")
        if status != 200 or before == after:
            raise Failed(f"a stopped process {before} was not replaced: {status}, process {after}")
        if took > limit + 2:
            raise Failed(f"a stopped process was replaced only after {took:.1f} s, WatchdogSec is {limit} s")
        if self.options.reduced:
            self.box.does(f"rm /{drop_in} && systemctl daemon-reload && systemctl restart belvo-gateway")
        return f"a stopped process replaced and the waiting webhook answered in {took:.1f} s, WatchdogSec={limit}s"

    def reboot(self):
        """The box is switched off and on, and nobody does anything."""
        began = time.monotonic()
        self.box.reboot()
        until(lambda: self.belvo.one() == 200, "a webhook is answered after the reboot")
        took = time.monotonic() - began
        self._none_lost()
        return f"serves by itself {took:.1f} s after the reboot was asked for, nothing lost"

    def by_itself(self):
        """Without the socket the same unit binds the port."""
        self.box.does("systemctl mask --now belvo-gateway.socket 2>&1; systemctl restart belvo-gateway")
        status, log = self.belvo.one(), self.log()
        if status != 200 or "handed over" in log.splitlines()[-1] or "serving" not in log:
            raise Failed(f"without the socket: {status}")
        if self.is_package:
            self.box.does("systemctl unmask belvo-gateway.socket")
        return "with the socket masked the gateway binds the port"

    def remove(self):
        """A package goes, and its data only with purge."""
        if not self.is_package:
            self.box.does("systemctl disable --now belvo-gateway.socket belvo-gateway 2>&1", may_fail=True)
            until(lambda: self.belvo.one() is None, "nobody serves any more")
            return "stopped and disabled; remove and purge are for packages"
        self.box.does("dpkg --remove belvo-gateway")
        if not os.path.exists(self.box.path(f"{STATE}/gateway.db")):
            raise Failed("dpkg --remove took the data along")
        self.box.does("echo 'belvo-gateway belvo-gateway/purge-data boolean true' | debconf-set-selections", may_fail=True)
        self.box.does("dpkg --purge belvo-gateway")
        left = [name for name in (PROGRAM, STATE, "etc/belvo-gateway") if os.path.exists(self.box.path(name))]
        if left:
            raise Failed(f"dpkg --purge leaves {', '.join(left)}")
        return "remove keeps the data, purge leaves nothing"

    # ---- What they use -----------------------------------------------------------------------------------------------

    def _put(self, path):
        """Installs a program or a package over what is there."""
        if not path.endswith(".deb"):
            self.box.put(path, PROGRAM)
            return
        self.box.put(path, "root/belvo-gateway.deb", 0o644)
        self.box.does("dpkg --force-confold -i /root/belvo-gateway.deb")

    def _property(self, name):
        return self.box.does(f"systemctl show -P {name} belvo-gateway")

    def _systemd(self):
        return self.box.does("systemctl --version").split()[1]

    def _entries(self, match):
        lines = self.box.does(f"journalctl -u belvo-gateway {match} -o json --no-pager").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def _nothing_wrong_with_the_units(self):
        # What systemd says about a file of a unit has the number of its line.
        words = r"grep -E 'belvo-gateway\.(service|socket):[0-9]+:'"
        said = self.box.does(f"journalctl -b --no-pager _PID=1 | {words}", may_fail=True)
        if said:
            raise Failed(f"systemd does not like the units: {said}")

    def _all_answered(self, load):
        """Nobody was refused, and everything is in the file."""
        if refused := load.refused():
            raise Failed(f"{len(refused)} of {load.answered() + len(refused)} refused:\n  " + "\n  ".join(refused[:10]))
        self._none_lost()
        return f"{load.answered()} requests, 0 refused, 0 lost, the slowest answered in {self.belvo.slowest:.1f} s"

    def _none_lost(self):
        """Every webhook that was answered 200 is in the file, byte for byte its name."""
        path = self.box.path(f"{STATE}/gateway.db")
        file = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        kept = {json.loads(body)["webhook_id"] for (body,) in file.execute("SELECT body FROM journal")}
        file.close()
        if lost := [name for name in self.belvo.answered if name not in kept]:
            raise Failed(f"{len(lost)} of {len(self.belvo.answered)} answered 200 are not in the file, such as {lost[0]}")
