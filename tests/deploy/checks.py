"""What an installer does to a box, one function each, and what must hold; each returns its figures as a sentence."""

import glob
import os
import pty
import shutil
import signal
import subprocess
import tempfile
import threading

from box import ADDRESS, Failed, run, until
from card import Card

ALL = (
    "dry_run fresh secrets again asked upgrade ends hangs refuses interrupted rollback encrypted"
    " firstboot wrong_answers cut_off image"
).split()
REDUCED = "dry_run fresh secrets again upgrade ends refuses rollback firstboot image".split()
SOURCES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SECRETS = {
    "belvo-secret-id": "11111111-aaaa-4bbb-8ccc-222222222222",
    "belvo-secret-password": "a secret pass#word with = and 'quotes' @XyZ",
    "webhook-authorization": "Bearer never-to-be-seen-5f1d3c2b",
}
STATE = "/var/lib/belvo-gateway"
# Ends at once, as a program that was built for another machine does; and one that never becomes ready.
BROKEN = "#!/bin/sh\n[ \"$1\" != --version ] || { echo belvo-gateway 9.9.9; exit; }\n"
# One that is ready, and tests itself as it is told to.
READY = BROKEN.replace("{", "{{").replace("}", "}}") + (
    "case $1 in self-test) {};; serve) systemd-notify --ready; esac\nexec sleep 1000\n"
)
SPEAKS = "etc/systemd/system/belvo-gateway.service.d/speaks.conf"
PATIENCE = 300


class Checks:
    """The checks, on one box that begins as a fresh Debian."""

    def __init__(self, box, package, work):
        self.box, self.work = box, work
        self.is_deb = package.endswith(".deb")
        self.package = package
        self.certificate, self.key = (os.path.join(work, name) for name in ("certificate.pem", "key.pem"))
        run(
            *"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90".split(),
            *f"-subj /CN=box -addext subjectAltName=IP:{ADDRESS} -keyout {self.key} -out {self.certificate}".split(),
        )
        self.answers = self._answers("answers", certificate_file=self.certificate, key_file=self.key)
        self._let_in()

    def log(self):
        """The end of the service's log."""
        units = "-u belvo-gateway -u belvo-gateway-firstboot"
        return self.box.does(f"journalctl {units} -n 20 --no-pager", may_fail=True)

    # ---- What is checked ---------------------------------------------------------------------------------------------

    def dry_run(self):
        """Says what it would do, and does nothing."""
        before = self._files()
        said = self._install("--dry-run", "--answers", self.answers)
        holds("not installed" in said and "would install" in said, said)
        holds(before == self._files(), f"a dry run changed {before ^ self._files()}")
        return "nothing changed"

    def fresh(self):
        """From a fresh Debian to a webhook that it sent to itself."""
        self.seen = set()
        over = threading.Event()
        watch = threading.Thread(target=self._watch, args=(over,))
        watch.start()
        try:
            said = self._install("--answers", self.answers)
        finally:
            over.set()
            watch.join()
        holds("answered  200" in said and "nothing-to-do" in said, said)
        holds(self._count() == 1, f"{self._count()} webhooks are in the file")
        for unit in ("belvo-gateway.service", *self._socket()):
            self.box.does(f"systemctl is-active {unit} && systemctl is-enabled {unit}")
        return said[said.index("answered  ") :].splitlines()[0]

    def secrets(self):
        """Are where they should be, closed, and nowhere else."""
        for name, value in SECRETS.items():
            holds(self.box.does(f"cat /etc/credstore/belvo-gateway.{name}") == value, f"{name} is another one")
        modes = self.box.does("stat -c '%a %U' /etc/credstore /etc/credstore/*").splitlines()
        holds(modes == ["700 root"] + ["600 root"] * 4, modes)
        holds(not self.seen, f"seen in arguments or an environment: {self.seen}")
        journal = self.box.does("journalctl --no-pager -o export")
        for value in SECRETS.values():
            holds(value not in journal, "a secret is in the journal")
            found = self.box.does(
                f"grep -rlF -- \"{value}\" /etc /var /tmp /root /usr/lib/systemd 2>/dev/null", may_fail=True
            ).split()
            holds(all(path.startswith("/etc/credstore/") for path in found), found)
        return f"{len(SECRETS) + 1} credentials, in no argument, environment, log or other file"

    def again(self):
        """A second run changes nothing and asks nothing."""
        before, pid = self._files(), self.box.does("systemctl show -p MainPID --value belvo-gateway")
        for more in ((), ("--answers", self.answers)):
            said = self._install(*more)
            holds("installed already" in said, said)
            holds(before == self._files(), f"changed: {before ^ self._files()}")
            holds(pid == self.box.does("systemctl show -p MainPID --value belvo-gateway"), "it was restarted")
        return "the same files, the same process"

    def asked(self):
        """Asks on a terminal; what is secret is not shown."""
        typed = ["sandbox", "files", self.certificate, self.key, "0.0.0.0:8443", *SECRETS.values(), "no"]
        said = self._on_a_terminal(("--again",), typed)
        holds("production or sandbox" in said and "done." in said, said)
        for value in SECRETS.values():
            holds(value not in said, "a secret was shown")
        return "nothing secret is shown"

    def upgrade(self):
        """A newer version takes the place of this one, and proves itself."""
        before = self._count()
        said = self._install(self._option(), self._variant("0.9.1", self._program() + b"\n"))
        holds("is installed" in said and "answered  200" in said, said)
        holds(self._count() > before, "webhooks were lost")
        note = self.box.does("cat /var/lib/belvo-gateway-install/before-upgrade.txt")
        holds("self-test passed: yes" in note, note)
        return "proven by a webhook to itself"

    def ends(self):
        """One that ends at once is taken back, and the log is shown."""
        return self._taken_back(BROKEN + "echo no such word >&2\nexit 1\n", "no such word")

    def hangs(self):
        """So is one that never becomes ready."""
        return self._taken_back(BROKEN + "exec sleep 1000\n", "it is not ready")

    def refuses(self):
        """And one that is ready, and keeps no webhook."""
        self._lets_a_shell_speak()
        said = self._taken_back(READY.format("echo the webhook was answered 503 >&2; exit 1"), "answered 503")
        self._as_it_was()
        return said

    def interrupted(self):
        """The power fails in an upgrade, before the new one has proven itself: the version before is still known."""
        was = self._running()
        self._lets_a_shell_speak()
        program = READY.format('[ "$2" = --help ] || { touch /run/asked; exec sleep 1000; }')
        with open(os.path.join(self.work, "interrupted.log"), "w", encoding="utf-8") as log:
            option, package = self._option(), self._variant("9.9.9", program.encode())
            process = subprocess.Popen(self._command(option, package), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            until(lambda: self.box.does("ls /run/asked"), "the new version is asked to test itself")
            self._loses_power()
        process.kill()
        process.wait()
        self.box.switch_on()
        self.box.does("systemctl start ssh")
        said = self._install("--rollback")
        holds("is back" in said and "answered  200" in said, said)
        holds(was == self._running(), "another program runs")
        self._as_it_was()
        return "back to the version that was proven"

    def rollback(self):
        """By order, back to the version before."""
        was = self._running()
        said = self._install("--rollback")
        holds("is back" in said and "answered  200" in said, said)
        holds(was != self._running(), "the same program runs")
        return "back, and proven"

    def encrypted(self):
        """With the key of the box."""
        self.box.does("systemd-creds setup 2>/dev/null || true")
        answers = self._answers("encrypted", certificate_file=self.certificate, key_file=self.key, encrypt="yes")
        said = self._install("--again", "--answers", answers)
        holds("answered  200" in said, said)
        holds(self.box.does("ls /etc/credstore") == "", "a plain one is left")
        before = self._files()
        said = self._install("--answers", answers)
        holds(before == self._files(), f"changed: {before ^ self._files()}")
        return "served with encrypted credentials, and the same at a second run"

    def firstboot(self):
        """An image takes its answers at its first boot, and forgets them."""
        self._as_new()
        self._on_the_card(self._whole_answers())
        self.box.reboot()
        self._until_taken()
        said = self.box.does(f"cat {self.boot}/belvo-gateway-result.txt")
        holds("It works." in said and "answered  200" in said, said)
        holds(SECRETS["belvo-secret-id"] not in said, "a secret is in the result")
        self.secrets()
        return "configured, proven, wiped"

    def wrong_answers(self):
        """Answers that cannot be taken are left, and the result says what to correct."""
        self._as_new()
        self._on_the_card(self._whole_answers().replace("environment = sandbox", "enviroment = sandbox"))
        self.box.reboot()
        until(lambda: "correct" in self.box.does(f"cat {self.boot}/belvo-gateway-result.txt"), "there is a result", 120)
        said = self.box.does(f"cat {self.boot}/belvo-gateway-result.txt")
        holds("line 1 of the answers" in said and "enviroment" in said, said)
        self._on_the_card(self._whole_answers().replace("\n", "\r\n"))
        self.box.does("systemctl start belvo-gateway-firstboot")
        self._until_taken()
        holds("It works." in self.box.does(f"cat {self.boot}/belvo-gateway-result.txt"), "it does not work")
        return "said which line; taken when corrected, as Windows writes it"

    def cut_off(self):
        """The power fails in the middle, at several moments."""
        moments, cuts = (0.2, 0.5, 0.9, 1.4, 2.0), 0
        for moment in moments:
            self._begins()
            threading.Event().wait(moment)
            cuts += self.box.does(f"ls {self.boot}/belvo-gateway.txt", may_fail=True).startswith("/")
            self._fails_and_comes_back()
        self._stops_in_the_wipe()
        return f"{len(moments)} times, {cuts} of them before the answers were wiped, and once within the wiping"

    def _begins(self):
        self._as_new()
        self._on_the_card(self._whole_answers())
        self.box.does("sync; systemctl start --no-block belvo-gateway-firstboot")

    def _fails_and_comes_back(self):
        self._loses_power()
        for path in glob.glob(self.box.path("usr/local/bin/rm")):
            os.unlink(path)
        self.box.switch_on()
        self._until_taken()
        self.box.does("systemctl is-active --wait belvo-gateway belvo-gateway-firstboot", may_fail=True)
        until(lambda: self._count() >= 0, "the gateway serves")
        self.secrets()

    def _loses_power(self):
        # The first process of the box: nspawn itself may leave it running, and ends when every process in it has.
        os.kill(self.box.leader, signal.SIGKILL)
        self.box.nspawn.communicate(timeout=PATIENCE)

    def _lets_a_shell_speak(self):
        """The stand-in is a shell, whose children say that it is ready."""
        self.box.write(SPEAKS, "[Service]\nNotifyAccess=all\n")
        self.box.does("systemctl daemon-reload")

    def _as_it_was(self):
        self.box.does(f"rm /{SPEAKS}; systemctl daemon-reload")

    def _stops_in_the_wipe(self):
        """After the overwriting and before the removing: for this the box has an `rm` that does not come back."""
        waits = "#!/bin/sh\ncase $* in *belvo-gateway.txt) touch /run/in-the-wipe; exec sleep 1000 ;; esac\n"
        waits += 'exec /usr/bin/rm "$@"\n'
        self._as_new()
        self.box.write("usr/local/bin/rm", waits, 0o755)
        self._on_the_card(self._whole_answers())
        self.box.does("sync; systemctl start --no-block belvo-gateway-firstboot")
        until(lambda: self.box.does("ls /run/in-the-wipe"), "it has overwritten the answers", 120)
        left = self.box.does(f"tr -d '\\0' <{self.boot}/belvo-gateway.txt | wc -c")
        holds(left == "0", f"{left} bytes are not overwritten")
        self._fails_and_comes_back()

    def image(self):
        """deploy/firstboot prepares the image of a card, which then boots in a box and configures itself."""
        self.box.switch_off()
        card, was = Card(self.box.tar, self.work), self.box.root
        answers = os.path.join(self.work, "belvo-gateway.txt")
        with open(answers, "w", encoding="utf-8") as file:
            file.write(self._whole_answers())
        run(self._deploy("firstboot"), "--package", self.package, "--answers", answers, card.image)
        card.plug_in()
        holds(os.listdir(card.boot) == ["belvo-gateway.txt"], os.listdir(card.boot))
        holds(SECRETS["belvo-secret-id"].encode() in card.boot_bytes(), "this does not see what is on the card")
        self.box.root = card.root
        self.box.switch_on()
        self._until_taken()
        self.seen = set()
        self.secrets()
        self.box.does("systemctl is-active belvo-gateway belvo-gateway.socket")
        holds(self._count() == 1, f"{self._count()} webhooks are in the file")
        self.box.switch_off()
        said = open(os.path.join(card.boot, "belvo-gateway-result.txt"), encoding="utf-8").read()
        holds("It works." in said and "answered  200" in said, said)
        holds(os.listdir(card.boot) == ["belvo-gateway-result.txt"], os.listdir(card.boot))
        card.pull_out()
        left = [name for name, value in SECRETS.items() if value.encode() in card.boot_bytes()]
        holds(not left, f"still on the boot partition: {left}")
        os.unlink(card.image)
        self.box.root = was
        self.box.switch_on()
        return "prepared, booted, serving; no byte of the secrets is on its boot partition"

    # ---- What the checks do it with ----------------------------------------------------------------------------------

    def _let_in(self):
        """A key of the installer's that the box knows."""
        self.ssh_key = os.path.join(self.work, "id")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.ssh_key)
        with open(f"{self.ssh_key}.pub", encoding="utf-8") as file:
            self.box.write("root/.ssh/authorized_keys", file.read(), 0o600)
        os.chmod(self.box.path("root/.ssh"), 0o700)
        self.box.does("systemctl start ssh")
        self.boot = "/boot/firmware"
        self.box.does(f"mkdir -p {self.boot}")

    def _deploy(self, name):
        return os.path.join(SOURCES, "deploy", name)

    def _command(self, *more):
        options = [f"IdentityFile={self.ssh_key}", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
        options += ["BatchMode=yes", "LogLevel=ERROR"]
        command = [self._deploy("install")]
        for option in options:
            command += ["-o", option]
        if not {"--package", "--program", "--rollback"} & set(more):
            command += [self._option(), self.package]
        return [*command, *more, f"root@{ADDRESS}"]

    def _install(self, *more, status=0):
        done = subprocess.run(
            self._command(*more), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False, timeout=PATIENCE,
        )
        holds(done.returncode == status, f"deploy/install ended with {done.returncode}: {done.stdout}")
        return done.stdout

    def _on_a_terminal(self, more, typed):
        ours, its = pty.openpty()
        process = subprocess.Popen(self._command(*more), stdin=its, stdout=its, stderr=its, close_fds=True)
        os.close(its)
        said, lines = b"", iter(typed)
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:
                break
            if not piece:
                break
            said += piece
            if said.endswith(b": "):
                line = next(lines, None)
                if line is not None:
                    os.write(ours, line.encode() + b"\n")
        process.wait(timeout=PATIENCE)
        return said.decode()

    def _option(self):
        return "--package" if self.is_deb else "--program"

    def _program(self):
        path = self.package
        if self.is_deb:
            tree = tempfile.mkdtemp(dir=self.work)
            run("dpkg-deb", "-x", self.package, tree)
            path = os.path.join(tree, "usr/bin/belvo-gateway")
        with open(path, "rb") as file:
            return file.read()

    def _variant(self, version, program):
        """A package of another version with this program in it."""
        path = os.path.join(self.work, f"belvo-gateway_{version}.deb")
        if not self.is_deb:
            path = os.path.join(self.work, f"belvo-gateway-{version}")
            with open(path, "wb") as file:
                file.write(program)
            os.chmod(path, 0o755)
            return path
        tree = tempfile.mkdtemp(dir=self.work)
        run("dpkg-deb", "-R", self.package, tree)
        with open(os.path.join(tree, "usr/bin/belvo-gateway"), "wb") as file:
            file.write(program)
        run("sed", "-i", f"s/^Version: .*/Version: {version}/", os.path.join(tree, "DEBIAN/control"))
        os.chmod(tree, 0o755)
        run("dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, path)
        shutil.rmtree(tree)
        return path

    def _taken_back(self, program, why):
        before, was = self._count(), self._running()
        said = self._install(self._option(), self._variant("9.9.9", program.encode()), status=3)
        holds(why in said and "taken back" in said, said)
        holds(was == self._running(), "another program runs")
        self._install("--test")
        holds(self._count() > before, "it keeps no webhooks")
        return "taken back, and serving"

    def _running(self):
        return self.box.does("sha256sum /proc/$(systemctl show -p MainPID --value belvo-gateway)/exe | cut -d' ' -f1")

    def _count(self):
        return int(self.box.does(f"sqlite3 -readonly {STATE}/gateway.db 'SELECT count(*) FROM journal'"))

    def _socket(self):
        there = glob.glob(os.path.join(SOURCES, "systemd", "*.socket"))
        return [os.path.basename(path) for path in there]

    def _files(self):
        """Every file that an installation may touch, with its time and content."""
        listed = self.box.does(
            "find /etc /usr /boot /var/lib/belvo-gateway-install /var/tmp -xdev -type f ! -name '*.cache' ! -name lock"
            " -printf '%p %T@ %m\\n' 2>/dev/null",
            may_fail=True,
        )
        return set(listed.splitlines())

    def _watch(self, over):
        """Looks into every process of the box for secrets."""
        while not over.wait(0.01):
            for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
                try:
                    with open(path, "rb") as file:
                        text = file.read().decode(errors="replace")
                except OSError:
                    continue
                for name, value in SECRETS.items():
                    if value in text:
                        self.seen.add(f"{name}: {text[:80]}")

    def _answers(self, name, **more):
        path = os.path.join(self.work, name)
        lines = ["environment = sandbox", "tls = files"]
        lines += [f"{key.replace('_', '-')} = {value}" for key, value in more.items()]
        lines += [f"{key} = {value}" for key, value in SECRETS.items()]
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        return path

    def _whole_answers(self):
        text = open(self._answers("card"), encoding="utf-8").read()
        for path in (self.certificate, self.key):
            text += open(path, encoding="utf-8").read()
        return text

    def _on_the_card(self, text):
        self.box.write(f"{self.boot.strip('/')}/belvo-gateway.txt", text)

    def _until_taken(self):
        """The file is gone, and what took it has ended."""
        place = f"{self.boot}/belvo-gateway.txt"
        until(lambda: self.box.does(f"ls {place}", may_fail=True).startswith("ls:"), "the answers are taken", 120)
        ended = "systemctl show -p ActiveState --value belvo-gateway-firstboot"
        until(lambda: self.box.does(ended) in ("inactive", "failed"), "the first boot is over", 120)

    def _as_new(self):
        """The box as an image that was never booted."""
        self.seen = set()
        stop = "systemctl stop belvo-gateway.socket belvo-gateway.service belvo-gateway-firstboot.service"
        self.box.does(stop, may_fail=True)
        self.box.does("DEBIAN_FRONTEND=noninteractive dpkg --purge belvo-gateway", may_fail=True)
        self.box.does(
            "rm -rf /var/lib/belvo-gateway /var/lib/belvo-gateway-install /etc/belvo-gateway /etc/credstore"
            " /etc/credstore.encrypted /usr/bin/belvo-gateway /usr/lib/belvo-gateway /etc/systemd/system/belvo-gateway*"
            f" /etc/systemd/system/*.wants/belvo-gateway* {self.boot}/belvo-gateway*; journalctl --rotate -q;"
            " journalctl --vacuum-time=1s -q; systemctl daemon-reload",
            may_fail=True,
        )
        run(self._deploy("firstboot"), "--package", self.package, "--root", self.box.root)
        self.box.does("systemctl daemon-reload")


def holds(condition, otherwise):
    """Or the check has failed."""
    if not condition:
        raise Failed(str(otherwise))
