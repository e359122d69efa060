"""A PostgreSQL for tests, started from the programs of Debian's package; also for those of storage:

python -m tests.service.postgres tests/storage
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


class Postgres:
    """A PostgreSQL of one's own, which may be killed."""

    def __init__(self) -> None:
        # Not below pytest's, whose next run closes them to others, such as those who run it.
        self._place = TemporaryDirectory()
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._data = Path(self._place.name) / "postgres"
        self._data.mkdir()
        if os.geteuid() == 0:  # Which PostgreSQL refuses to be run by.
            self._data.parent.chmod(0o711)
            shutil.chown(self._data, "postgres")
        self._run("initdb", "--username", "autopeft", "--auth", "trust", "--pgdata", str(self._data))
        self.start()
        self._run("createdb", "--host", "127.0.0.1", "--port", str(self.port), "--username", "autopeft", "autopeft")

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://autopeft@127.0.0.1:{self.port}/autopeft"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        log = str(self._data / "log")
        self._run("pg_ctl", "start", "--wait", "--pgdata", str(self._data), "--options", options, "--log", log)

    def kill(self) -> None:
        """As a power cut does."""
        os.kill(int((self._data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        time.sleep(2)  # Until its processes have noticed.

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "--mode", "immediate", "--pgdata", str(self._data))
        self._place.cleanup()

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(BINARIES[-1] / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "--user", "postgres", "--", *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._data)


def main() -> None:
    """Runs tests with a database that they may empty."""
    database = Postgres()
    try:
        environment = {**os.environ, "AUTOPEFT_TEST_STORAGE": database.url}
        tests = [sys.executable, "-m", "pytest", "-q", *sys.argv[1:]]
        sys.exit(subprocess.run(tests, env=environment, check=False).returncode)
    finally:
        database.stop()


if __name__ == "__main__":
    main()
