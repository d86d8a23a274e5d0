"""The scoring contracts that the endpoint keeps: fields, schemas, replies, errors."""
