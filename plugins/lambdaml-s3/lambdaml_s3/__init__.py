"""Values as objects of Amazon S3, or of what speaks its protocol, for LambdaML."""
