"""Settings of all tests."""

import gc

import hypothesis

# Machines are busy at times, and a slow example is no fault.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def pytest_collection_finish():
    """Leaves what was imported out of each search for garbage: a tenth of the time."""
    gc.collect()
    gc.freeze()
