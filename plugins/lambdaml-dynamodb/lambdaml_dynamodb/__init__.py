"""Values as items of a table of Amazon DynamoDB, for LambdaML."""
