"""What was played, for people and other tools: data frames, a page, files in others' formats."""
