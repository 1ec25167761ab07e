"""The router's stages on a cluster of three nodes: nothing of theirs depends on one server.

These are the tests of other files, once more. `TEST_STORE=cluster pytest tests/contract` runs them
all; a few look into the server itself and cannot pass there.
"""

# ruff: noqa: F403 - the tests are what is imported
from collections.abc import Iterator

import pytest

from tests.contract.test_router_acks import *
from tests.contract.test_router_casts import *
from tests.contract.test_router_send import *
from tests.contract.test_router_topics import *
from tests.contract.test_store_streams import *
from tests.support.clusters import running_cluster

pytestmark = [pytest.mark.xdist_group("processes")]


@pytest.fixture(scope="module")
def store_url() -> Iterator[str]:
    with running_cluster() as cluster:
        yield cluster.url
