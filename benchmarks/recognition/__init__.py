"""Words from raw sound: how right they are, where they lie, what they cost."""
