"""Whatever the API's document allows is answered, and as the document says: schemathesis tries it."""

from typing import Any

import pytest

from autopeft.errors import AutopeftError
from tests.service.conftest import Service
from tests.service.test_api import API, remembered

schemathesis = pytest.importorskip("schemathesis")
pytestmark = pytest.mark.long


def test_no_request_that_the_document_allows_is_a_defect(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    remembered(service)

    def apart(*_: Any, **__: Any) -> Any:
        raise AutopeftError("not in this test.")

    monkeypatch.setattr(service.office.apart, "run", apart)
    monkeypatch.setattr(service.office.answering, "run", apart)
    schema = schemathesis.openapi.from_asgi(f"{API}/openapi.json", service.client.app)
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path.endswith("/events"):
            continue  # It ends when nobody listens any more.
        _ask(operation, service)


def _ask(operation: Any, service: Service) -> None:
    from hypothesis import HealthCheck, given, settings

    @given(case=operation.as_strategy())
    @settings(max_examples=25, suppress_health_check=list(HealthCheck), database=None)
    def asked(case: Any) -> None:
        answer = case.call(headers=service.runner)
        assert answer.status_code < 500, (operation.path, answer.text)

    asked()
