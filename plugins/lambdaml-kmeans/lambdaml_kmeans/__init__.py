"""k-means for LambdaML: the model ``kmeans``, and the optimizer ``em`` that trains it."""
