"""What a service is doing, as numbers for Prometheus: counted when they are asked for.

Requests are timed by the pattern of their path, so that no name of a search becomes a label.
"""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily as Gauge
from starlette.types import Message, Scope, Send

from autopeft.machine import gpus
from autopeft.service.office import Office
from autopeft.storage.queue import STATES
from autopeft.trial import Status

_REQUESTS = Histogram(
    "autopeft_request_seconds", "Until an answer begins.", ("method", "path", "status"), registry=None
)


def observed(scope: Scope, send: Send) -> Send:
    """Times a request until its answer begins."""
    began = time.perf_counter()

    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            path = getattr(scope.get("route"), "path", "none")
            _REQUESTS.labels(scope["method"], path, message["status"]).observe(time.perf_counter() - began)
        await send(message)

    return sender


def exposed(office: Office) -> bytes:
    """All of it, in Prometheus' format. Raises AutopeftError."""
    registry = CollectorRegistry()
    registry.register(_REQUESTS)
    registry.register(_Collector(office))
    ProcessCollector(registry=registry)
    return bytes(generate_latest(registry))


class _Collector:
    def __init__(self, office: Office) -> None:
        self._office = office

    def collect(self) -> Iterator[Gauge]:
        states = self._office.queue.states()
        searches = Gauge("autopeft_searches", "Searches of the queue.", labels=("state",))
        for state in STATES:
            searches.add_metric((state,), states[state])
        known = self._office.repository.counts()
        trials = Gauge("autopeft_trials", "Trials of all searches.", labels=("status",))
        for status in Status:
            trials.add_metric((status.value,), known.get(status, 0))
        yield from (searches, trials)
        busy = Gauge("autopeft_gpu_share", "Of a GPU's time, in use.", labels=("gpu",))
        memory = Gauge("autopeft_gpu_memory_share", "Of a GPU's memory, in use.", labels=("gpu",))
        for number, (time_used, memory_used) in gpus().items():
            busy.add_metric((number,), time_used)
            memory.add_metric((number,), memory_used)
        yield from (busy, memory)
