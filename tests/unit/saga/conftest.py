"""Settings of hypothesis for the core's tests."""

from hypothesis import settings

# Other work on the machine may make any example slow; slow code shows in the benchmarks.
settings.register_profile("core", deadline=None)
settings.load_profile("core")
