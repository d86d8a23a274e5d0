"""A fake Azure on loopback: the real SDKs reach it through two environment variables."""

from tests.azure.fake.azure import FakeAzure
from tests.azure.fake.faults import Fault
from tests.azure.fake.messages import Request

__all__ = ["FakeAzure", "Fault", "Request"]
