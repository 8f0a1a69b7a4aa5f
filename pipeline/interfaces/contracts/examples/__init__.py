"""An example of each published schema, from a real export of `plan.json`; the file's name is the schema's."""
