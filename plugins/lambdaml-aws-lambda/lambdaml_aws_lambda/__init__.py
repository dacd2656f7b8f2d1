"""Workers as functions of AWS Lambda, for LambdaML."""
