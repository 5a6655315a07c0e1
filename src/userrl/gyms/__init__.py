"""The text gyms. `make("function")` gives one; `base` says what a gym is."""
