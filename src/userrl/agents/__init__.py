"""Who plays: language models behind an endpoint, local weights, people, scripts."""
