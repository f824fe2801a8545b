"""What survives a killed run: the claim on an output, its work folder and its ledger."""
