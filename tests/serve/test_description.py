"""What the OpenAPI description promises is kept, whatever is sent: schemathesis reads it and tries to break in."""

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("schemathesis")

import houses
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from omnisky.serve.app import build

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

schema = schemathesis.openapi.from_asgi("/openapi.json", build(houses.house(seconds=20.0)))
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_description_is_kept(case):
    case.call_and_validate(checks=list(CHECKS))
