"""The path in Azure: the same steps as on your own machine, in a subscription of yours."""
