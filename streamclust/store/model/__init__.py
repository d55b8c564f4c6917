"""The keys of a model: lease, commit, versions, proposal, health, codes."""
