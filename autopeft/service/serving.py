"""The server that listens: uvicorn, with a line for each request and event, and nothing secret in any."""

import logging
import os
import signal
import sys
from typing import Any

import uvicorn

from autopeft.service.app import create_app
from autopeft.service.settings import Settings

_PATIENCE = 5
"""Seconds that connections have to end."""
_SWITCH = 0.001
"""Seconds until a thread that computes lets the one that answers go on; Python's are 0.005, several for each answer."""
_CONNECTIONS = 2000
"""At a time; more are answered that there are too many."""


def serve(settings: Settings, host: str, port: int) -> None:
    """Serves until Ctrl-C or SIGTERM. Raises AutopeftError for a database that cannot be used."""
    if not settings.hub:
        os.environ.update({"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"})  # For all processes that start here.
    app = create_app(settings)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for each in ("limits", "alembic"):  # What is sent as a database of its own is made by all migrations.
        logging.getLogger(each).setLevel(logging.WARNING)
    # uvicorn raises what it was ended by once more, when all connections have ended: that is an end in good order.
    signal.signal(signal.SIGTERM, lambda *_: None)
    sys.setswitchinterval(_SWITCH)
    limits: dict[str, Any] = {"limit_concurrency": _CONNECTIONS, "timeout_graceful_shutdown": _PATIENCE}
    uvicorn.run(app, host=host, port=port, log_config=None, server_header=False, **limits)
