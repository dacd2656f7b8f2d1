"""``lambdaml doctor``: what keeps runs from working on this machine, and what to do about it.

A module here looks at one kind of thing. Each imports what it looks at when it looks: whatever is missing or broken
becomes a finding, and the others go on.
"""
