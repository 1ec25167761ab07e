"""A session that a test leads by hand."""

import pytest

from tests.unit.sdk.driver import Lead


@pytest.fixture
def lead() -> Lead:
    return Lead()


@pytest.fixture
def connected(lead: Lead) -> Lead:
    lead.connect()
    return lead
