"""The deployment package of a function: what goes into it, and the zip file that comes of it."""
