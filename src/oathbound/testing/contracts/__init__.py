"""What an extension must keep, as tests that its author inherits. `docs/guides/extend.md`."""
