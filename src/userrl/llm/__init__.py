"""The one door to models: endpoints, the client, typed replies, and a fake for tests."""

from userrl.llm.client import ChatClient, Client, Completion, Endpoint, Usage, parse_endpoint

__all__ = ["ChatClient", "Client", "Completion", "Endpoint", "Usage", "parse_endpoint"]
