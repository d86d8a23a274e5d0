"""The page on which people compare deployments: its files, and how a browser gets them."""
