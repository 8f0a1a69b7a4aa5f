"""The published contracts: JSON Schemas, AsyncAPI document and examples, built from the models that the code uses."""
