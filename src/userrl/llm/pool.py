"""Several endpoints in one chair."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from userrl.core import Place
from userrl.errors import ConfigError, EndpointRefused
from userrl.llm.client import Client
from userrl.llm.endpoint import Endpoint
from userrl.llm.wire import Completion


class Pool:
    """A `Client` over several, each with its weight.

    An episode stays with one endpoint, so that a server's prefix cache serves it, and is the same one in every run;
    over many episodes the endpoints' shares are as their weights. An endpoint that is down or refuses is stood in for
    by the episode's next one, until it answers again; the last one's refusal is raised.
    """

    def __init__(self, clients: Sequence[Client], weights: Sequence[float]) -> None:
        if not clients or len(clients) != len(weights) or not all(w > 0 and math.isfinite(w) for w in weights):
            raise ConfigError(f"A pool of {len(clients)} endpoints has weights {list(weights)}; expected one above 0 for each.")
        self.clients, self.weights = tuple(clients), tuple(weights)

    @property
    def endpoint(self) -> Endpoint:
        """The first one's, which speaks for all: they should differ in their place alone."""
        return self.clients[0].endpoint

    @property
    def down(self) -> bool:
        return all(client.down for client in self.clients)

    async def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        schema: Mapping[str, Any] | None = None,
        seed: int | None = None,
        temperature: float | None = None,
        place: Place | None = None,
    ) -> Completion:
        """The answer of the episode's endpoint, or of the next that gives one. Raises as `Client.chat` does."""
        order = self.order(place or Place())
        order.sort(key=lambda client: client.down)  # stable: those that are well first
        for client in order[:-1]:
            try:
                return await client.chat(messages, tools=tools, schema=schema, seed=seed, temperature=temperature, place=place)
            except EndpointRefused:
                continue
        return await order[-1].chat(messages, tools=tools, schema=schema, seed=seed, temperature=temperature, place=place)

    def order(self, place: Place) -> list[Client]:
        """The clients in the order in which an episode asks them (weighted rendezvous hashing)."""
        episode = f"{place.gym}|{place.task}|{place.attempt}|{place.seed}"

        def rank(at: int) -> float:
            digest = hashlib.blake2b(f"{episode}|{at}".encode("utf-8", "replace"), digest_size=8).digest()
            drawn = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)
            return math.log(drawn) / self.weights[at]

        return [self.clients[at] for at in sorted(range(len(self.clients)), key=rank, reverse=True)]
