"""A judge's material, rules and verdicts, without promptflow."""
