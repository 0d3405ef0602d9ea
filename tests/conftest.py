"""Settings of all tests."""

import gc

import hypothesis

# Machines are busy at times, and a slow example is no fault.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def pytest_collection_finish():
    """Spares each search for garbage the 375,000 objects of what was imported."""
    gc.collect()
    gc.freeze()
