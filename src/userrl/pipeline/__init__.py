"""Jobs made of the rooms below: who sits where, the demo."""
