"""Who stands behind a gym: scripts, language models, people, and wrappers around them."""
