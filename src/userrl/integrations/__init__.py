"""Our gyms, users and credit in other people's frameworks: thin, each an optional extra."""
