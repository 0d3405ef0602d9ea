"""Settings of all tests."""

import hypothesis

# Machines are busy at times, and a slow example is no fault.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")
