"""A process allows itself what its hard limit does, and says where that is too little."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from loadtest.descriptors import allow_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 500))
print(allow_descriptors(int(sys.argv[1])), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("needed", "printed"), [(50, "0 500 500"), (500, "0 500 500"), (501, "500 100 500")]
)
def test_the_soft_limit_is_raised_to_the_hard_one(needed: int, printed: str) -> None:
    words = [sys.executable, "-c", SCRIPT, str(needed)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == printed
