"""What people build on: the JSON Schemas, the AsyncAPI document and their examples, made of the models that the code runs on."""
