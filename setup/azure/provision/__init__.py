"""The resource group and everything in it that the path needs."""
