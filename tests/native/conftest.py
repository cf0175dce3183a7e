"""What tests of the kernels share."""

from collections.abc import Iterator

import pytest

from midflow.native.library import load_library

PROCESSORS = ("any", "AVX2", "AVX-512")


@pytest.fixture(params=PROCESSORS)
def processor(request: pytest.FixtureRequest) -> Iterator[str]:
    """The greatest that kernels may be for."""
    library, limit = load_library(), PROCESSORS.index(request.param)
    if library is None:
        pytest.skip("midflow was installed without a C compiler")
    if library.midflow_processor() < limit:
        pytest.skip(f"this processor has no {request.param}")
    library.midflow_limit_processor(limit)
    yield request.param
    library.midflow_limit_processor(len(PROCESSORS))
