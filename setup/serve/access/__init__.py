"""Who gets in: keys and their limits, pages of other origins, slots and the queue before them."""
