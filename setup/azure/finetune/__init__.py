"""The fine-tuning job, by the catalog's pipeline or our own trainer."""
