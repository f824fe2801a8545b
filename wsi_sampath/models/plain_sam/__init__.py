"""SAM and MobileSAM as models of their own: they answer prompts, and make no maps."""
