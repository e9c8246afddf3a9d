"""The circuit breaker of a deployment, as ECS has it.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-circuit-breaker.html
"""

import math


class CircuitBreaker:
    """Counts tasks that failed to get ready, one after the other."""

    def __init__(self, desired: int) -> None:
        """desired: tasks that the service should have."""
        self.threshold = min(max(3, math.ceil(desired / 2)), 200)
        self.failures = 0

    @property
    def open(self) -> bool:
        """Whether the deployment has failed."""
        return self.failures >= self.threshold

    def succeeded(self) -> None:
        """A task got ready."""
        self.failures = 0

    def failed(self) -> None:
        """A task ended, or was not ready in time."""
        self.failures += 1
